package policy

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"modernc.org/libc"
	"modernc.org/libc/sys/types"
	lib "modernc.org/sqlite/lib"
)

// Bounds of one prepare. They are far above what the largest stock query
// needs (61 tables' plans, 6 KiB), and keep a hostile text under about a
// second and a few megabytes.
const (
	maxTextBytes   = 64 << 10 // osquery takes more; nobody can review it
	maxExprDepth   = 500      // SQLite's default is 1000
	maxCompound    = 250      // terms of UNION and VALUES; SQLite's default is 500
	maxColumns     = 2000     // SQLite's default, and a little over osquery's widest join
	maxProgramOps  = 500_000  // instructions of the prepared program
	maxArguments   = 100      // of one function
	maxLikePattern = 4096     // bytes; SQLite's default is 50,000
	maxPlans       = 20_000   // questions of the planner; a join of n tables asks about n² times
	maxProgress    = 100_000  // steps of the parser and the planner (see progressStep)
	progressStep   = 1
)

// plan is what the planner asks about one table: may it be read with these
// constraints?
type plan struct {
	table *table
	terms []term
}

// term is one constraint on a column that the planner found.
type term struct {
	column  *column
	op      uint8 // lib.SQLITE_INDEX_CONSTRAINT_…
	usable  bool  // the right side is known when the table is read in this plan
	list    bool  // IN (…)
	literal bool  // the right side is a literal: value
	value   string
	id      int32 // the same term in several plans has one id
}

// watcher is told what SQLite finds in a text while it prepares it.
type watcher interface {
	// authorize reports whether the action may be compiled.
	authorize(action int32, arg1, arg2, schema string) bool
	// accept reports whether the plan may be used.
	accept(p plan) bool
	// tick is called now and then; false stops the preparation.
	tick() bool
}

// prepared is what SQLite says of a text as a whole.
type prepared struct {
	columns    []ResultColumn
	readOnly   bool
	explain    bool
	parameters int
	blank      bool // no statement in it
	tail       int  // offset of what follows the first statement
}

// sqlError is SQLite's message about a text.
type sqlError struct {
	code    int32
	message string
	offset  int // in bytes; -1 if unknown
}

func (e *sqlError) Error() string { return e.message }

// session is one SQLite in memory in which every name of a catalog exists and
// nothing can be run. Not safe for concurrent use.
//
// It uses the translated C library below the driver, because the driver offers
// neither prepare without running, nor the literals of constraints, nor the
// place of an error.
type session struct {
	tls       *libc.TLS
	db        uintptr
	memory    []uintptr // freed on close
	arguments uintptr   // room for two arguments of C's variadic functions
	kept      []any     // Go functions that SQLite calls: the collector does not see its pointers
	catalog   *catalog
	watch     watcher // of the text that is being prepared; nil outside
}

func openSession(c *catalog) (_ *session, err error) {
	s := &session{tls: libc.NewTLS(), catalog: c}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := s.open(); err != nil {
		return nil, err
	}
	if err := s.registerTables(); err != nil {
		return nil, err
	}
	if err := s.registerFunctions(); err != nil {
		return nil, err
	}
	lib.Xsqlite3_set_authorizer(s.tls, s.db, callback(s, s.onAuthorize), 0)
	lib.Xsqlite3_progress_handler(s.tls, s.db, progressStep, callback(s, s.onProgress), 0)
	for _, v := range c.views {
		if err := s.createView(v); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *session) open() error {
	name, out := s.text(":memory:"), s.allocate(unsafe.Sizeof(uintptr(0)))
	if name == 0 || out == 0 {
		return errors.New("open SQLite in memory: out of memory")
	}
	// No mutex: a session has one user at a time.
	rc := lib.Xsqlite3_open_v2(s.tls, name, out, lib.SQLITE_OPEN_READWRITE|lib.SQLITE_OPEN_MEMORY|lib.SQLITE_OPEN_NOMUTEX, 0)
	s.db = *memory[uintptr](out)
	if rc != lib.SQLITE_OK {
		return fmt.Errorf("open SQLite in memory: code %d", rc)
	}
	for id, limit := range map[int32]int32{
		lib.SQLITE_LIMIT_SQL_LENGTH:          maxTextBytes,
		lib.SQLITE_LIMIT_EXPR_DEPTH:          maxExprDepth,
		lib.SQLITE_LIMIT_COMPOUND_SELECT:     maxCompound,
		lib.SQLITE_LIMIT_COLUMN:              maxColumns,
		lib.SQLITE_LIMIT_VDBE_OP:             maxProgramOps,
		lib.SQLITE_LIMIT_FUNCTION_ARG:        maxArguments,
		lib.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: maxLikePattern,
		lib.SQLITE_LIMIT_ATTACHED:            0,
		lib.SQLITE_LIMIT_WORKER_THREADS:      0,
		lib.SQLITE_LIMIT_TRIGGER_DEPTH:       1,
	} {
		lib.Xsqlite3_limit(s.tls, s.db, id, limit)
	}
	// A text in double quotes is a name, never a value: else an unknown column
	// would become a harmless constant here and something else on an agent.
	if s.arguments = s.allocate(2 * unsafe.Sizeof(uint64(0))); s.arguments == 0 {
		return errors.New("configure SQLite: out of memory")
	}
	for _, option := range []int32{lib.SQLITE_DBCONFIG_DQS_DML, lib.SQLITE_DBCONFIG_DQS_DDL} {
		if rc := lib.Xsqlite3_db_config(s.tls, s.db, option, libc.VaList(s.arguments, int32(0), uintptr(0))); rc != lib.SQLITE_OK {
			return fmt.Errorf("configure SQLite: code %d", rc)
		}
	}
	return nil
}

// registerTables makes every table known under all its names, as tables that
// exist by their name alone; they are declared when a text first uses them.
func (s *session) registerTables() error {
	m := s.allocate(unsafe.Sizeof(lib.Tsqlite3_module{}))
	if m == 0 {
		return errors.New("register tables: out of memory")
	}
	*memory[lib.Tsqlite3_module](m) = lib.Tsqlite3_module{
		FiVersion:    1,
		FxConnect:    callback(s, s.onConnect),
		FxBestIndex:  callback(s, s.onBestIndex),
		FxDisconnect: callback(s, onDisconnect),
	}
	for name, i := range s.catalog.names {
		z := s.text(name)
		if z == 0 {
			return errors.New("register tables: out of memory")
		}
		// i+1, as the library frees nothing of it and 0 is no pointer.
		if rc := lib.Xsqlite3_create_module(s.tls, s.db, z, m, uintptr(i)+1); rc != lib.SQLITE_OK {
			return fmt.Errorf("register table %s: code %d", name, rc)
		}
	}
	return nil
}

// registerFunctions makes osquery's own functions and collations known. They
// do nothing: no text is ever run.
func (s *session) registerFunctions() error {
	stub := callback(s, func(*libc.TLS, uintptr, int32, uintptr) {})
	final := callback(s, func(*libc.TLS, uintptr) {})
	for _, f := range s.catalog.functions {
		call, step, end := stub, uintptr(0), uintptr(0)
		switch f.origin {
		case "osquery":
		case "aggregate":
			call, step, end = 0, stub, final
		default:
			continue
		}
		z := s.text(f.name)
		if z == 0 {
			return errors.New("register functions: out of memory")
		}
		if rc := lib.Xsqlite3_create_function(s.tls, s.db, z, f.arguments, lib.SQLITE_UTF8, 0, call, step, end); rc != lib.SQLITE_OK {
			return fmt.Errorf("register function %s: code %d", f.name, rc)
		}
	}
	equal := callback(s, func(*libc.TLS, uintptr, int32, uintptr, int32, uintptr) int32 { return 0 })
	for _, name := range []string{"version", "version_arch", "version_dpkg", "version_rhel"} {
		z := s.text(name)
		if z == 0 {
			return errors.New("register collations: out of memory")
		}
		if rc := lib.Xsqlite3_create_collation(s.tls, s.db, z, lib.SQLITE_UTF8, 0, equal); rc != lib.SQLITE_OK {
			return fmt.Errorf("register collation %s: code %d", name, rc)
		}
	}
	return nil
}

// viewWatcher lets a view be created, and nothing else.
type viewWatcher struct{}

func (viewWatcher) authorize(action int32, table, _, _ string) bool {
	switch action {
	case lib.SQLITE_CREATE_VIEW, lib.SQLITE_SELECT, lib.SQLITE_FUNCTION, lib.SQLITE_RECURSIVE:
		return true
	case lib.SQLITE_INSERT, lib.SQLITE_UPDATE, lib.SQLITE_READ:
		return table == "sqlite_master"
	}
	return false
}

func (viewWatcher) accept(plan) bool { return true }

func (viewWatcher) tick() bool { return true }

// createView runs the only statement that a session ever runs.
func (s *session) createView(v view) error {
	s.watch = viewWatcher{}
	defer func() { s.watch = nil }()
	z, err := libc.CString(fmt.Sprintf("CREATE VIEW %s AS %s", quoteName(v.name), v.text))
	if err != nil {
		return fmt.Errorf("create view %s: %w", v.name, err)
	}
	defer libc.Xfree(s.tls, z)
	if rc := lib.Xsqlite3_exec(s.tls, s.db, z, 0, 0, 0); rc != lib.SQLITE_OK {
		return &sqlError{code: rc, message: libc.GoString(lib.Xsqlite3_errmsg(s.tls, s.db)), offset: -1}
	}
	return nil
}

// literally makes the planner take texts as they are written, or again as it
// likes: without it, no sub-query is merged with what is around it and no
// condition moves into one. An agent's SQLite is older and may do neither.
func (s *session) literally(on bool) {
	// Bits of SQLite's sqliteInt.h: flattening, joins without effect, transitive
	// equality, conditions pushed down, simpler outer joins, constants.
	const liberties = 0x1 | 0x100 | 0x80 | 0x1000 | 0x2000 | 0x8000
	mask := int32(0)
	if on {
		mask = liberties
	}
	lib.Xsqlite3_test_control(s.tls, lib.SQLITE_TESTCTRL_OPTIMIZATIONS, libc.VaList(s.arguments, s.db, mask))
}

// prepare compiles the first statement of sql, telling w what is in it, and
// forgets it. A text with a NUL ends there; callers refuse it before.
func (s *session) prepare(sql string, w watcher) (prepared, error) {
	s.watch = w
	defer func() { s.watch = nil }()
	z, err := libc.CString(sql)
	if err != nil {
		return prepared{}, fmt.Errorf("prepare: %w", err)
	}
	defer libc.Xfree(s.tls, z)
	out := libc.Xcalloc(s.tls, 2, 8)
	if out == 0 {
		return prepared{}, errors.New("prepare: out of memory")
	}
	defer libc.Xfree(s.tls, out)
	rc := lib.Xsqlite3_prepare_v2(s.tls, s.db, z, int32(len(sql))+1, out, out+8) //nolint:gosec // at most maxTextBytes
	statement := *memory[uintptr](out)
	if rc != lib.SQLITE_OK {
		return prepared{}, &sqlError{
			code:    rc,
			message: libc.GoString(lib.Xsqlite3_errmsg(s.tls, s.db)),
			offset:  int(lib.Xsqlite3_error_offset(s.tls, s.db)),
		}
	}
	p := prepared{tail: int(*memory[uintptr](out + 8) - z), blank: statement == 0}
	if statement == 0 {
		return p, nil
	}
	defer lib.Xsqlite3_finalize(s.tls, statement)
	p.readOnly = lib.Xsqlite3_stmt_readonly(s.tls, statement) != 0
	p.explain = lib.Xsqlite3_stmt_isexplain(s.tls, statement) != 0
	p.parameters = int(lib.Xsqlite3_bind_parameter_count(s.tls, statement))
	for i := range lib.Xsqlite3_column_count(s.tls, statement) {
		p.columns = append(p.columns, s.resultColumn(statement, i))
	}
	return p, nil
}

func (s *session) close() {
	if s.db != 0 {
		lib.Xsqlite3_close_v2(s.tls, s.db)
	}
	for _, p := range s.memory {
		libc.Xfree(s.tls, p)
	}
	s.tls.Close()
}

func (s *session) onAuthorize(_ *libc.TLS, _ uintptr, action int32, arg1, arg2, schema, _ uintptr) int32 {
	if s.watch != nil && s.watch.authorize(action, goString(arg1), goString(arg2), goString(schema)) {
		return lib.SQLITE_OK
	}
	return lib.SQLITE_DENY
}

func (s *session) onProgress(_ *libc.TLS, _ uintptr) int32 {
	if s.watch == nil || s.watch.tick() {
		return 0
	}
	return 1
}

// virtualTable is SQLite's struct for a table with the number of ours behind.
type virtualTable struct {
	lib.Tsqlite3_vtab
	index uintptr
}

func (s *session) onConnect(tls *libc.TLS, db, aux uintptr, _ int32, _, out, _ uintptr) int32 {
	declaration, err := libc.CString(s.catalog.tables[aux-1].declaration())
	if err != nil {
		return lib.SQLITE_NOMEM
	}
	defer libc.Xfree(tls, declaration)
	if rc := lib.Xsqlite3_declare_vtab(tls, db, declaration); rc != lib.SQLITE_OK {
		return rc
	}
	p := libc.Xcalloc(tls, 1, types.Size_t(unsafe.Sizeof(virtualTable{})))
	if p == 0 {
		return lib.SQLITE_NOMEM
	}
	memory[virtualTable](p).index = aux - 1
	*memory[uintptr](out) = p
	return lib.SQLITE_OK
}

func onDisconnect(tls *libc.TLS, p uintptr) int32 {
	libc.Xfree(tls, p)
	return lib.SQLITE_OK
}

// onBestIndex offers SQLite a plan that uses all usable equalities and LIKEs
// on columns that osquery can use, as osquery does
// (osquery/sql/virtual_table.cpp, xBestIndex), so that the planner asks again
// without those that need another table first.
func (s *session) onBestIndex(tls *libc.TLS, vtab, info uintptr) int32 {
	t := s.catalog.tables[memory[virtualTable](vtab).index]
	index := memory[lib.Tsqlite3_index_info](info)
	p := plan{table: t, terms: make([]term, 0, index.FnConstraint)}
	used := int32(0)
	for i := range index.FnConstraint {
		p.terms = append(p.terms, s.term(tls, t, info, i))
		last := &p.terms[i]
		if last.usable && last.column != nil && last.column.pushed() && (last.equal() || last.like()) {
			used++
			element[lib.Tsqlite3_index_constraint_usage](index.FaConstraintUsage, i).FargvIndex = used
		}
	}
	if s.watch != nil && !s.watch.accept(p) {
		return lib.SQLITE_CONSTRAINT
	}
	index.FestimatedCost = 1e6 / float64(1+used*used*used) //nolint:mnd // any falling row: more constraints are better
	return lib.SQLITE_OK
}

func (s *session) term(tls *libc.TLS, t *table, info uintptr, i int32) term {
	index := memory[lib.Tsqlite3_index_info](info)
	c := element[lib.Tsqlite3_index_constraint](index.FaConstraint, i)
	result := term{op: c.Fop, usable: c.Fusable != 0, id: c.FiTermOffset}
	if c.FiColumn >= 0 && int(c.FiColumn) < len(t.columns) {
		result.column = &t.columns[c.FiColumn]
	}
	if result.op == lib.SQLITE_INDEX_CONSTRAINT_EQ {
		result.list = lib.Xsqlite3_vtab_in(tls, info, i, -1) != 0
	}
	out := libc.Xcalloc(tls, 1, 8)
	if out == 0 {
		return result
	}
	defer libc.Xfree(tls, out)
	if lib.Xsqlite3_vtab_rhs_value(tls, info, i, out) == lib.SQLITE_OK {
		value := *memory[uintptr](out)
		// A blob or a number is no path and no URL: only text is a literal here.
		if lib.Xsqlite3_value_type(tls, value) == lib.SQLITE_TEXT {
			result.literal, result.value = true, goString(lib.Xsqlite3_value_text(tls, value))
		}
	}
	return result
}

func (t *term) equal() bool {
	return t.op == lib.SQLITE_INDEX_CONSTRAINT_EQ || t.op == lib.SQLITE_INDEX_CONSTRAINT_IS
}

func (t *term) like() bool { return t.op == lib.SQLITE_INDEX_CONSTRAINT_LIKE }

// allocate returns zeroed memory that the session owns; 0 if there is none.
func (s *session) allocate(size uintptr) uintptr {
	p := libc.Xcalloc(s.tls, 1, types.Size_t(size))
	if p != 0 {
		s.memory = append(s.memory, p)
	}
	return p
}

// text returns a C string that the session owns; 0 if there is no memory.
func (s *session) text(t string) uintptr {
	p := s.allocate(uintptr(len(t)) + 1)
	if p != 0 {
		copy(unsafe.Slice(memory[byte](p), len(t)), t) //nolint:gosec // C memory of that length
	}
	return p
}

// callback returns a Go function, which may be a closure, as the C library
// takes functions: a pointer to Go's function value. Go's collector does not
// move it, and the session keeps it alive.
func callback[F any](s *session, f F) uintptr {
	s.kept = append(s.kept, f)
	return *(*uintptr)(unsafe.Pointer(&f)) //nolint:gosec // see above
}

func goString(p uintptr) string {
	if p == 0 {
		return ""
	}
	return libc.GoString(p)
}

// memory is the value at an address of the C library's memory, which is outside of
// Go's.
func memory[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) } //nolint:gosec // the only way to C memory

// element is the i-th value of an array of the C library; i is not negative.
func element[T any](array uintptr, i int32) *T {
	var size T
	return memory[T](array + uintptr(i)*unsafe.Sizeof(size)) //nolint:gosec // see above
}

// quoteName writes a name so that SQLite takes it as one.
func quoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
