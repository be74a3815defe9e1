package bridge

import (
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/lindbridge/lindbridge/abi"
)

// header is the shim's committed header, which cbindgen writes.
const header = "../rust-shim/include/lindshim.h"

// mirroredTypes are the structures of abi_unsafe.go by the header's names.
var mirroredTypes = map[string]reflect.Type{
	"lindshim_error_t":         reflect.TypeFor[errorABI](),
	"lindshim_wait_fd_t":       reflect.TypeFor[waitFDABI](),
	"lindshim_call_t":          reflect.TypeFor[callABI](),
	"lindshim_thread_end_t":    reflect.TypeFor[threadEndABI](),
	"lindshim_thread_t":        reflect.TypeFor[threadABI](),
	"lindshim_report_t":        reflect.TypeFor[reportABI](),
	"lindshim_engine_config_t": reflect.TypeFor[engineConfigABI](),
	"lindshim_import_t":        reflect.TypeFor[importABI](),
	"lindshim_domain_config_t": reflect.TypeFor[domainConfigABI](),
	"lindshim_module_info_t":   reflect.TypeFor[moduleInfoABI](),
	"lindshim_extern_t":        reflect.TypeFor[externABI](),
	"lindshim_engine_stats_t":  reflect.TypeFor[engineStatsABI](),
	"lindshim_grate_config_t":  reflect.TypeFor[grateConfigABI](),
	"lindshim_trace_t":         reflect.TypeFor[traceABI](),
	"lindshim_caller_t":        reflect.TypeFor[callerABI](),
	"lindshim_fault_t":         reflect.TypeFor[faultABI](),
}

// mirroredConstants are the constants of this package by the header's names.
var mirroredConstants = map[string]int64{
	"LINDSHIM_ABI_VERSION": abiVersion,
	"LINDSHIM_ERROR_TEXT":  errorTextBytes,

	"LINDSHIM_OK":              int64(statusOK),
	"LINDSHIM_ERR_INVALID":     int64(statusInvalid),
	"LINDSHIM_ERR_HANDLE":      int64(statusHandle),
	"LINDSHIM_ERR_MODULE":      int64(statusModule),
	"LINDSHIM_ERR_IMPORT":      int64(statusImport),
	"LINDSHIM_ERR_EXPORT":      int64(statusExport),
	"LINDSHIM_ERR_MEMORY":      int64(statusMemory),
	"LINDSHIM_ERR_LIMIT":       int64(statusLimit),
	"LINDSHIM_ERR_CLOSED":      int64(statusClosed),
	"LINDSHIM_ERR_BUSY":        int64(statusBusy),
	"LINDSHIM_ERR_IO":          int64(statusIO),
	"LINDSHIM_ERR_RUNTIME":     int64(statusRuntime),
	"LINDSHIM_ERR_PANIC":       int64(statusPanic),
	"LINDSHIM_ERR_ABI":         int64(statusABI),
	"LINDSHIM_ERR_DEPTH":       int64(statusDepth),
	"LINDSHIM_ERR_UNSUPPORTED": int64(statusUnsupported),

	"LINDSHIM_CONTINUE": int64(Continue),
	"LINDSHIM_QUIT":     int64(QuitThread),
	"LINDSHIM_TRAP":     int64(TrapThread),
	"LINDSHIM_WAIT":     int64(WaitThread),

	"LINDSHIM_RESUMED_NOT":         int64(NotResumed),
	"LINDSHIM_RESUMED_READY":       int64(ResumedReady),
	"LINDSHIM_RESUMED_TIMED_OUT":   int64(ResumedTimedOut),
	"LINDSHIM_RESUMED_REFUSED":     int64(ResumedRefused),
	"LINDSHIM_RESUMED_INTERRUPTED": int64(ResumedInterrupted),

	"LINDSHIM_MAX_WAIT": MaxWait,

	"LINDSHIM_END_RETURNED":     int64(EndReturned),
	"LINDSHIM_END_QUIT":         int64(EndQuit),
	"LINDSHIM_END_STOPPED":      int64(EndStopped),
	"LINDSHIM_END_TRAPPED":      int64(EndTrapped),
	"LINDSHIM_END_START_FAILED": int64(EndStartFailed),
	"LINDSHIM_END_DISCARDED":    int64(EndDiscarded),

	"LINDSHIM_AT_STARTING":    int64(AtStarting),
	"LINDSHIM_AT_GUEST":       int64(AtGuest),
	"LINDSHIM_AT_HOST_CALL":   int64(AtHostCall),
	"LINDSHIM_AT_ATOMIC_WAIT": int64(AtAtomicWait),
	"LINDSHIM_AT_ENDED":       int64(AtEnded),
	"LINDSHIM_AT_GRATE":       int64(AtGrate),
	"LINDSHIM_AT_IDLE":        int64(AtIdle),

	// What guests get: the bridge passes it on, and the ABI of Lind names it.
	"LINDSHIM_GRATE_ERR":  int64(abi.GrateErr),
	"LINDSHIM_ELINDESRCH": elindesrch,

	"LINDSHIM_EXTERN_FUNC":   int64(ExternFunc),
	"LINDSHIM_EXTERN_GLOBAL": int64(ExternGlobal),
	"LINDSHIM_EXTERN_TABLE":  int64(ExternTable),
	"LINDSHIM_EXTERN_MEMORY": int64(ExternMemory),
	"LINDSHIM_EXTERN_TAG":    int64(ExternTag),

	"LINDSHIM_STRUCT_ERROR":         int64(structError),
	"LINDSHIM_STRUCT_CALL":          int64(structCall),
	"LINDSHIM_STRUCT_THREAD_END":    int64(structThreadEnd),
	"LINDSHIM_STRUCT_THREAD":        int64(structThread),
	"LINDSHIM_STRUCT_REPORT":        int64(structReport),
	"LINDSHIM_STRUCT_ENGINE_CONFIG": int64(structEngineConfig),
	"LINDSHIM_STRUCT_IMPORT":        int64(structImport),
	"LINDSHIM_STRUCT_DOMAIN_CONFIG": int64(structDomainConfig),
	"LINDSHIM_STRUCT_MODULE_INFO":   int64(structModuleInfo),
	"LINDSHIM_STRUCT_EXTERN":        int64(structExtern),
	"LINDSHIM_STRUCT_ENGINE_STATS":  int64(structEngineStats),
	"LINDSHIM_STRUCT_GRATE_CONFIG":  int64(structGrateConfig),
	"LINDSHIM_STRUCT_TRACE":         int64(structTrace),
	"LINDSHIM_STRUCT_CALLER":        int64(structCaller),
	"LINDSHIM_STRUCT_FAULT":         int64(structFault),
}

// elindesrch is abi.ELindESRCH as a guest sees it, which has it as an i32.
const elindesrch = int64(abi.ELindESRCH) - 1<<32

// cHeader is what a header declares.
type cHeader struct {
	constants map[string]int64
	structs   map[string][]cField
	functions map[string]int // number of parameters
}

type cField struct {
	typ   string // without const and struct: "uint64_t", "char *"
	name  string
	array string // the length's text, if it is an array
}

var (
	cComment  = regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*`)
	cDefine   = regexp.MustCompile(`(?m)^\s*#define\s+(LINDSHIM_\w+)\s+\(?(-?\d+)\)?\s*$`)
	cEnum     = regexp.MustCompile(`\b(LINDSHIM_\w+)\s*=\s*(-?\d+)`)
	cStruct   = regexp.MustCompile(`(?s)\bstruct\s*(\w*)\s*\{(.*?)\}\s*(\w*)\s*;`)
	cDeclare  = regexp.MustCompile(`^(.*?)(\w+)\s*(?:\[\s*(\w+)\s*\])?$`)
	cFunction = regexp.MustCompile(`(?s)\b(lindshim_\w+)\s*\(([^()]*)\)\s*;`)
)

// parseHeader reads the part of C that cbindgen writes.
func parseHeader(text string) cHeader {
	text = cComment.ReplaceAllString(text, "")
	h := cHeader{make(map[string]int64), make(map[string][]cField), make(map[string]int)}
	for _, re := range []*regexp.Regexp{cDefine, cEnum} {
		for _, m := range re.FindAllStringSubmatch(text, -1) {
			v, err := strconv.ParseInt(m[2], 10, 64)
			if err == nil {
				h.constants[m[1]] = v
			}
		}
	}
	for _, m := range cStruct.FindAllStringSubmatch(text, -1) {
		name := m[3]
		if name == "" {
			name = m[1]
		}
		for _, declaration := range strings.Split(m[2], ";") {
			h.structs[name] = append(h.structs[name], parseFields(declaration)...)
		}
	}
	for _, m := range cFunction.FindAllStringSubmatch(text, -1) {
		n := strings.Count(m[2], ",") + 1
		if p := strings.TrimSpace(m[2]); p == "void" || p == "" {
			n = 0
		}
		h.functions[m[1]] = n
	}
	return h
}

// parseFields reads "uint64_t a, b" or "const char *text" or "char text[64]".
func parseFields(declaration string) []cField {
	var fields []cField
	typ := ""
	for _, part := range strings.Split(strings.TrimSpace(declaration), ",") {
		m := cDeclare.FindStringSubmatch(strings.TrimSpace(part))
		if m == nil {
			continue
		}
		if t := strings.TrimSpace(m[1]); t != "" {
			t = strings.TrimPrefix(strings.TrimPrefix(t, "const "), "struct ")
			typ = strings.TrimSpace(strings.ReplaceAll(t, " *", "*"))
		}
		fields = append(fields, cField{typ: typ, name: m[2], array: m[3]})
	}
	return fields
}

func readHeader(t *testing.T) cHeader {
	t.Helper()
	text, err := os.ReadFile(header)
	if err != nil {
		t.Fatal(err)
	}
	return parseHeader(string(text))
}

func TestMirror_MatchesHeader(t *testing.T) {
	h := readHeader(t)
	for name, fields := range h.structs {
		mirror, ok := mirroredTypes[name]
		if !ok {
			t.Errorf("%s is not mirrored in abi_unsafe.go", name)
			continue
		}
		compareStruct(t, h, name, fields, mirror)
	}
	for name, mirror := range mirroredTypes {
		if h.structs[name] == nil {
			t.Errorf("%v mirrors %s, which the header lacks", mirror, name)
		}
	}
}

func compareStruct(t *testing.T, h cHeader, name string, fields []cField, mirror reflect.Type) {
	t.Helper()
	if len(fields) != mirror.NumField() {
		t.Errorf("%s has %d fields in the header and %d in %v", name, len(fields), mirror.NumField(), mirror)
		return
	}
	for i, f := range fields {
		m := mirror.Field(i)
		if want := goName(f.name); m.Name != want {
			t.Errorf("%s: field %d is %s in the header, so %s in %v, which has %s",
				name, i, f.name, want, mirror, m.Name)
		}
		if got, want := m.Type, goType(h, f); got != want {
			t.Errorf("%s.%s is %s %s in the header, so %v, which %v has as %v",
				name, f.name, f.typ, f.array, want, mirror, got)
		}
	}
}

// goName is a field's name in camel case, and not a keyword of Go's.
func goName(c string) string {
	if c == "import" {
		return "importID"
	}
	words := strings.Split(c, "_")
	for i, w := range words[1:] {
		words[i+1] = strings.ToUpper(w[:1]) + w[1:]
	}
	return strings.Join(words, "")
}

// goType is the mirror of a field's type.
func goType(h cHeader, f cField) reflect.Type {
	basic := map[string]reflect.Type{
		"uint64_t": reflect.TypeFor[uint64](), "int64_t": reflect.TypeFor[int64](),
		"uint32_t": reflect.TypeFor[uint32](), "int32_t": reflect.TypeFor[int32](),
		"uint8_t": reflect.TypeFor[uint8](), "char": reflect.TypeFor[byte](),
	}
	switch {
	case f.array != "":
		n, err := strconv.ParseInt(f.array, 10, 64)
		if err != nil {
			n = h.constants[f.array]
		}
		return reflect.ArrayOf(int(n), basic[f.typ])
	case f.name == "handlers":
		return reflect.TypeFor[uintptr]() // an address that the caller has as a number, and not of Go's memory
	case strings.HasSuffix(f.typ, "*"):
		return reflect.TypeOf(callABI{}.args) // unsafe.Pointer
	case strings.HasSuffix(f.typ, "_fn"):
		return reflect.TypeFor[uintptr]()
	}
	return basic[f.typ]
}

func TestConstants_MatchHeader(t *testing.T) {
	h := readHeader(t)
	for name, v := range h.constants {
		if mirror, ok := mirroredConstants[name]; !ok || mirror != v {
			t.Errorf("%s is %d in the header and %d (known: %t) here", name, v, mirror, ok)
		}
	}
	for name := range mirroredConstants {
		if _, ok := h.constants[name]; !ok {
			t.Errorf("the header has no %s", name)
		}
	}
}

func TestSymbols_AreTheFunctionsOfHeader(t *testing.T) {
	h := readHeader(t)
	var s symbols
	ours := make(map[string]bool)
	for _, entry := range s.table() {
		ours[entry.name] = true
		if _, ok := h.functions[entry.name]; !ok {
			t.Errorf("the header has no function %s", entry.name)
		}
	}
	for name := range h.functions {
		if !ours[name] {
			t.Errorf("function %s of the header is not in symbols.go", name)
		}
	}
	if fields := reflect.TypeFor[symbols]().NumField(); fields != len(ours) {
		t.Errorf("symbols has %d fields and %d names", fields, len(ours))
	}
}

func TestParseHeader_ReadsWhatCbindgenWrites(t *testing.T) {
	h := parseHeader(`
// struct commented { uint32_t out; };
#define LINDSHIM_OK 0
/* #define LINDSHIM_GONE 1 */
enum { LINDSHIM_A = 1, LINDSHIM_B=2 };
typedef struct lindshim_x_t { // a comment; with a semicolon
  uint64_t a, b;
  const char *text;
  uint64_t *const list;
  char fixed[LINDSHIM_B];
  lindshim_call_fn call;
} lindshim_x_t;
typedef int32_t (*lindshim_call_fn)(struct lindshim_x_t *call);
int32_t lindshim_do(uint64_t x,
                    struct lindshim_x_t *y);
uint32_t lindshim_none(void);`)
	constants := map[string]int64{"LINDSHIM_OK": 0, "LINDSHIM_A": 1, "LINDSHIM_B": 2}
	if !reflect.DeepEqual(h.constants, constants) {
		t.Errorf("constants: %v", h.constants)
	}
	want := []cField{
		{"uint64_t", "a", ""},
		{"uint64_t", "b", ""},
		{"char*", "text", ""},
		{"uint64_t*const", "list", ""},
		{"char", "fixed", "LINDSHIM_B"},
		{"lindshim_call_fn", "call", ""},
	}
	if !reflect.DeepEqual(h.structs, map[string][]cField{"lindshim_x_t": want}) {
		t.Errorf("structs: %v", h.structs)
	}
	if want := map[string]int{"lindshim_do": 2, "lindshim_none": 0}; !reflect.DeepEqual(h.functions, want) {
		t.Errorf("functions: %v", h.functions)
	}
}
