# Settings of osquery, made by muster export agent. Made again, not edited.
#
# @param manage_service
#   Keep osqueryd running, and restart it when a file changes.
# @param enroll_secret
#   What nodes show to enrol; its file is left alone if this is not given.
class muster_osquery (
  Boolean $manage_service = true,
  Optional[Variant[String[1], Sensitive[String[1]]]] $enroll_secret = undef,
) {
  file { '/etc/osquery':
    ensure => directory,
    owner  => 'root',
    group  => 'root',
    mode   => '0755',
  }

  file { '/etc/systemd/system/osqueryd.service.d':
    ensure => directory,
    owner  => 'root',
    group  => 'root',
    mode   => '0755',
  }

  file { '/etc/osquery/muster-ca.pem':
    ensure => file,
    owner  => 'root',
    group  => 'root',
    mode   => '0644',
    backup => false,
    source => 'puppet:///modules/muster_osquery/etc/osquery/muster-ca.pem',
  }

  file { '/etc/osquery/osquery.conf':
    ensure => file,
    owner  => 'root',
    group  => 'root',
    mode   => '0600',
    backup => false,
    source => 'puppet:///modules/muster_osquery/etc/osquery/osquery.conf',
  }

  file { '/etc/osquery/osquery.flags':
    ensure => file,
    owner  => 'root',
    group  => 'root',
    mode   => '0600',
    backup => false,
    source => 'puppet:///modules/muster_osquery/etc/osquery/osquery.flags',
  }

  file { '/etc/systemd/system/osqueryd.service.d/50-muster.conf':
    ensure => file,
    owner  => 'root',
    group  => 'root',
    mode   => '0644',
    backup => false,
    source => 'puppet:///modules/muster_osquery/etc/systemd/system/osqueryd.service.d/50-muster.conf',
  }

  if $enroll_secret =~ NotUndef {
    file { '/etc/osquery/enroll.secret':
      ensure    => file,
      owner     => 'root',
      group     => 'root',
      mode      => '0600',
      backup    => false,
      show_diff => false,
      content   => $enroll_secret,
    }
  }

  exec { 'muster_osquery: read units again':
    command     => 'systemctl daemon-reload',
    path        => ['/usr/bin', '/bin'],
    refreshonly => true,
    subscribe   => File['/etc/systemd/system/osqueryd.service.d/50-muster.conf'],
  }

  if $manage_service {
    service { 'osqueryd':
      ensure    => running,
      enable    => true,
      require   => Exec['muster_osquery: read units again'],
      subscribe => [
        File['/etc/osquery/muster-ca.pem'],
        File['/etc/osquery/osquery.conf'],
        File['/etc/osquery/osquery.flags'],
        File['/etc/systemd/system/osqueryd.service.d/50-muster.conf'],
      ],
    }
    if $enroll_secret =~ NotUndef {
      File['/etc/osquery/enroll.secret'] ~> Service['osqueryd']
    }
  }
}
