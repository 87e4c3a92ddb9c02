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
<%- range .Directories %>
  file { '/<% . %>':
    ensure => directory,
    owner  => 'root',
    group  => 'root',
    mode   => '0755',
  }
<% end %>
<%- range .Installed %>
  file { '/<% .Path %>':
    ensure => file,
    owner  => 'root',
    group  => 'root',
    mode   => '<% mode .Mode %>',
    backup => false,
    source => 'puppet:///modules/muster_osquery/<% .Path %>',
  }
<% end %>
  if $enroll_secret =~ NotUndef {
    file { '<% .SecretPath %>':
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
    subscribe   => File['/<% .Service %>'],
  }

  if $manage_service {
    service { 'osqueryd':
      ensure    => running,
      enable    => true,
      require   => Exec['muster_osquery: read units again'],
      subscribe => [
<%- range .Installed %>
        File['/<% .Path %>'],
<%- end %>
      ],
    }
    if $enroll_secret =~ NotUndef {
      File['<% .SecretPath %>'] ~> Service['osqueryd']
    }
  }
}
