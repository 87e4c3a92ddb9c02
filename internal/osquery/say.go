package osquery

// What agents say of how they fare, in status lines: beginnings of messages, but for
// SayDenied, which is within one. As of 5.23.1; files and lines change between releases.
// See osquery/config/config.cpp, plugins/logger/buffered.cpp and tls_logger.cpp,
// config/parsers/options.cpp, sql/sqlite_util.cpp, extensions/extensions.cpp and
// interface.cpp.
const (
	SayFailed       = "Scheduled query may have failed: " // and its name; also after any abrupt end
	SayDenied       = "skipping denied scheduled query: " // and its name
	SayExpired      = "Scheduled denylisted query has expired: "
	SayRefused      = "updateSource failed to parse config" // which it quotes whole
	SayPurged       = "Purging buffered logs limit"
	SayLong         = "Linesize exceeds TLS logger maximum"
	SayCLIOnly      = "The CLI only flag --"
	SayUnknownFlag  = "Cannot set unknown or invalid flag: "
	SayDenial       = "Authorizer denied action"
	SayExtension    = "Registering extension ("
	SayExtensionOff = "Extension UUID "
)

// MaxSaid is how much of a status line is worth looking at, in bytes.
const MaxSaid = 512
