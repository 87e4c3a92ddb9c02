package hostsql

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Address families and protocols as in socket(2).
const (
	familyUnix  = 1
	familyInet  = 2
	familyInet6 = 10

	protocolTCP     = 6
	protocolUDP     = 17
	protocolUDPLite = 136
	protocolICMP    = 1
	protocolICMP6   = 58
	protocolRaw     = 255
)

// A socket is a line of /proc/<pid>/net/*.
type socket struct {
	inode              string
	family, protocol   int
	local, remote      string
	localPort, farPort int
	path, state        string
	netns              string
}

// owner is an open descriptor that refers to a socket.
type owner struct{ pid, fd string }

func (h *host) processOpenSockets(_ context.Context, q Constraints, yield func(Values) error) error {
	return h.sockets(q, func(o owner, s socket) error {
		return yield(Values{
			"pid": o.pid, "fd": o.fd, "socket": s.inode, "family": s.family, "protocol": s.protocol,
			"local_address": s.local, "remote_address": s.remote, "local_port": s.localPort, "remote_port": s.farPort,
			"path": s.path, "state": s.state, "net_namespace": s.netns,
		})
	})
}

func (h *host) listeningPorts(_ context.Context, _ Constraints, yield func(Values) error) error {
	return h.sockets(Constraints{}, func(o owner, s socket) error {
		if s.family == familyUnix && s.path == "" || s.family != familyUnix && s.farPort != 0 {
			return nil
		}
		return yield(Values{
			"pid": o.pid, "port": s.localPort, "protocol": s.protocol, "family": s.family, "address": s.local,
			"fd": o.fd, "socket": s.inode, "path": s.path, "net_namespace": s.netns,
		})
	})
}

// sockets calls use for every socket of the processes that the constraints
// allow. Without a constraint, sockets that no readable process holds come
// too, with -1 for the process and descriptor, as in osquery.
func (h *host) sockets(q Constraints, use func(owner, socket) error) error {
	owners := map[string][]owner{} // by inode
	spaces := map[string]string{}  // network namespace → a process in it
	err := h.pids(q, func(pid string) error {
		ns := strings.TrimSuffix(strings.TrimPrefix(h.link("proc", pid, "ns/net"), "net:["), "]")
		if _, seen := spaces[ns]; !seen {
			spaces[ns] = pid
		}
		return h.descriptors(pid, func(fd, target string) error {
			if inode, ok := strings.CutPrefix(target, "socket:["); ok {
				inode = strings.TrimSuffix(inode, "]")
				owners[inode] = append(owners[inode], owner{pid, fd})
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	seen := map[string]bool{} // an unreadable namespace may be one seen already
	for ns, pid := range spaces {
		err := h.netTables(pid, func(s socket) error {
			if s.inode != "0" && seen[s.inode] {
				return nil
			}
			seen[s.inode] = true
			s.netns = ns
			holders := owners[s.inode]
			if len(holders) == 0 && len(q.Equal("pid")) == 0 {
				holders = []owner{{"-1", "-1"}}
			}
			for _, o := range holders {
				if err := use(o, s); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// netTables reads the sockets of a process's network namespace.
func (h *host) netTables(pid string, use func(socket) error) error {
	for _, t := range []struct {
		file             string
		family, protocol int
	}{
		{"tcp", familyInet, protocolTCP},
		{"tcp6", familyInet6, protocolTCP},
		{"udp", familyInet, protocolUDP},
		{"udp6", familyInet6, protocolUDP},
		{"udplite", familyInet, protocolUDPLite},
		{"udplite6", familyInet6, protocolUDPLite},
		{"icmp", familyInet, protocolICMP},
		{"icmp6", familyInet6, protocolICMP6},
		{"raw", familyInet, protocolRaw},
		{"raw6", familyInet6, protocolRaw},
	} {
		err := each(h.read("proc", pid, "net", t.file), func(line string) error {
			s, ok := inetSocket(line)
			if !ok {
				return nil
			}
			s.family, s.protocol = t.family, t.protocol
			if t.protocol != protocolTCP {
				s.state = ""
			}
			return use(s)
		})
		if err != nil {
			return err
		}
	}
	return each(h.read("proc", pid, "net/unix"), func(line string) error {
		f := strings.Fields(line) // Num RefCount Protocol Flags Type St Inode Path
		const inodeAt, pathAt = 6, 7
		if len(f) <= inodeAt || f[0] == "Num" {
			return nil
		}
		return use(socket{inode: f[inodeAt], family: familyUnix, path: strings.Join(f[min(pathAt, len(f)):], " ")})
	})
}

// inetSocket reads a line of /proc/net/tcp and its kin.
func inetSocket(line string) (socket, bool) {
	f := strings.Fields(line)
	const inodeAt = 9
	if len(f) <= inodeAt || !strings.HasSuffix(f[0], ":") {
		return socket{}, false
	}
	local, localPort, ok1 := hexAddress(f[1])
	remote, remotePort, ok2 := hexAddress(f[2])
	if !ok1 || !ok2 {
		return socket{}, false
	}
	return socket{inode: f[inodeAt], local: local, localPort: localPort, remote: remote, farPort: remotePort, state: tcpState(f[3])}, true
}

func tcpState(code string) string {
	names := []string{
		"UNKNOWN", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2",
		"TIME_WAIT", "CLOSED", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING",
	}
	n, err := strconv.ParseUint(code, 16, 8)
	if err != nil || int(n) >= len(names) {
		return names[0]
	}
	return names[n]
}

// hexAddress reads "0100007F:1F90": 32-bit words in the machine's byte order.
func hexAddress(s string) (address string, port int, ok bool) {
	a, p, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(a)
	if err != nil || len(b) != net.IPv4len && len(b) != net.IPv6len {
		return "", 0, false
	}
	n, err := strconv.ParseUint(p, 16, 16)
	if err != nil {
		return "", 0, false
	}
	for i := 0; i < len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	ip, _ := netip.AddrFromSlice(b)
	return ip.String(), int(n), true
}

func (h *host) interfaceAddresses(_ context.Context, _ Constraints, yield func(Values) error) error {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil //nolint:nilerr // a sandbox without netlink has no rows
	}
	for _, i := range interfaces {
		addresses, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addresses {
			n, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			v := Values{
				"interface": i.Name, "address": n.IP.String(), "mask": net.IP(n.Mask).String(),
				"broadcast": "", "point_to_point": "", "type": "unknown",
			}
			if n.IP.To4() != nil && i.Flags&net.FlagBroadcast != 0 {
				v["broadcast"] = broadcast(n).String()
			}
			if err := yield(v); err != nil {
				return err
			}
		}
	}
	return nil
}

func broadcast(n *net.IPNet) net.IP {
	ip := n.IP.To4()
	b := make(net.IP, len(ip))
	for i := range ip {
		b[i] = ip[i] | ^n.Mask[len(n.Mask)-len(ip)+i]
	}
	return b
}

func (h *host) interfaceDetails(_ context.Context, _ Constraints, yield func(Values) error) error {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil //nolint:nilerr // as above
	}
	for _, i := range interfaces {
		get := func(name string) string { return h.line("sys/class/net", i.Name, name) }
		flags := int64(0)
		if n, err := strconv.ParseInt(strings.TrimPrefix(get("flags"), "0x"), 16, 64); err == nil {
			flags = n
		}
		mac := i.HardwareAddr.String()
		if mac == "" {
			mac = "00:00:00:00:00:00"
		}
		err := yield(Values{
			"interface": i.Name, "mac": mac, "type": get("type"), "mtu": i.MTU, "metric": 0, "flags": flags,
			"ipackets": get("statistics/rx_packets"), "opackets": get("statistics/tx_packets"),
			"ibytes": get("statistics/rx_bytes"), "obytes": get("statistics/tx_bytes"),
			"ierrors": get("statistics/rx_errors"), "oerrors": get("statistics/tx_errors"),
			"idrops": get("statistics/rx_dropped"), "odrops": get("statistics/tx_dropped"),
			"collisions": get("statistics/collisions"), "last_change": -1, "link_speed": max(0, number(get("speed"))),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *host) arpCache(_ context.Context, _ Constraints, yield func(Values) error) error {
	return each(h.read("proc/net/arp"), func(line string) error {
		f := strings.Fields(line) // IP address, HW type, Flags, HW address, Mask, Device
		const columns = 6
		if len(f) != columns {
			return nil // the heading has more words
		}
		permanent := "0"
		if flags, err := strconv.ParseUint(f[2], 0, 32); err == nil && flags&4 != 0 {
			permanent = "1"
		}
		return yield(Values{"address": f[0], "mac": f[3], "interface": f[5], "permanent": permanent})
	})
}

// routes reads the main IPv4 table; /proc shows no other as plainly.
func (h *host) routes(_ context.Context, _ Constraints, yield func(Values) error) error {
	return each(h.read("proc/net/route"), func(line string) error {
		f := strings.Fields(line) // Iface Destination Gateway Flags RefCnt Use Metric Mask MTU …
		const columns = 11
		if len(f) < columns || f[0] == "Iface" {
			return nil
		}
		destination, _, ok1 := hexAddress(f[1] + ":0")
		gateway, _, ok2 := hexAddress(f[2] + ":0")
		mask, err := strconv.ParseUint(f[7], 16, 32)
		if !ok1 || !ok2 || err != nil {
			return nil //nolint:nilerr // a line of another form
		}
		flags, err := strconv.ParseInt(f[3], 16, 32)
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		kind := "gateway"
		if gateway == "0.0.0.0" {
			gateway, kind = "", "local"
		}
		return yield(Values{
			"destination": destination, "netmask": bits.OnesCount64(mask), "gateway": gateway, "source": "", "flags": flags,
			"interface": f[0], "mtu": f[8], "metric": f[6], "type": kind, "hopcount": 0,
		})
	})
}

func (h *host) dnsResolvers(_ context.Context, _ Constraints, yield func(Values) error) error {
	counts := map[string]int{}
	return data(strings.ReplaceAll(h.read("etc/resolv.conf"), ";", "#"), func(f []string, _ string) error {
		kind := map[string]string{"nameserver": "nameserver", "search": "search", "sortlist": "sortlist"}[f[0]]
		if kind == "" {
			return nil
		}
		for _, address := range f[1:] {
			if err := yield(Values{"id": counts[kind], "type": kind, "address": address, "netmask": "", "options": 0, "pid_with_namespace": 0}); err != nil {
				return err
			}
			counts[kind]++
		}
		return nil
	})
}

func (h *host) etcHosts(_ context.Context, _ Constraints, yield func(Values) error) error {
	return data(h.read("etc/hosts"), func(f []string, _ string) error {
		return yield(Values{"address": f[0], "hostnames": strings.Join(f[1:], " "), "pid_with_namespace": 0})
	})
}

func (h *host) etcServices(_ context.Context, _ Constraints, yield func(Values) error) error {
	return data(h.read("etc/services"), func(f []string, comment string) error {
		if len(f) < 2 {
			return nil
		}
		port, protocol, _ := strings.Cut(f[1], "/")
		return yield(Values{"name": f[0], "port": port, "protocol": protocol, "aliases": strings.Join(f[2:], " "), "comment": comment})
	})
}

func (h *host) etcProtocols(_ context.Context, _ Constraints, yield func(Values) error) error {
	return data(h.read("etc/protocols"), func(f []string, comment string) error {
		return yield(Values{"name": f[0], "number": field(f, 1), "alias": field(f, 2), "comment": comment})
	})
}
