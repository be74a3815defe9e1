package bridge

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/ebitengine/purego"
)

// loadLibrary loads the shim at path and checks that it is one that this package can talk to. A library that fails the
// checks stays loaded: it cannot be known that nothing of it runs.
func loadLibrary(path string) (*library, error) {
	// What dlerror(3) has to say is the calling thread's, and purego asks for it in a second call.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, err
	}
	lib := &library{path: path}
	if err := lib.resolve(handle); err != nil {
		return nil, err
	}
	if err := lib.checkVersion(); err != nil {
		return nil, err
	}
	if err := lib.checkSizes(); err != nil {
		return nil, err
	}
	lib.version = lib.callVersion()
	return lib, nil
}

// resolve finds the address of every function, or names all that are missing.
func (l *library) resolve(handle uintptr) error {
	table := l.sym.table()
	var missing []string
	for _, s := range table {
		addr, err := purego.Dlsym(handle, s.name)
		if err != nil {
			missing = append(missing, s.name)
			continue
		}
		*s.addr = addr
	}
	if len(missing) == 0 {
		return nil
	}
	if len(missing) == len(table) {
		return fmt.Errorf("%w: this library is no shim: it has none of the functions of its C ABI", ErrABI)
	}
	hint := "it is older or newer than this program"
	if l.sym.abiVersion != 0 {
		hint = versionHint(l.callABIVersion())
	}
	return fmt.Errorf("%w: the shim lacks %s: %s", ErrABI, strings.Join(missing, ", "), hint)
}

// checkVersion compares the version of the C ABI.
func (l *library) checkVersion() error {
	if v := l.callABIVersion(); v != abiVersion {
		return fmt.Errorf("%w: %s", ErrABI, versionHint(v))
	}
	return nil
}

// versionHint says how a shim's version of the C ABI relates to ours, and what to do about it.
func versionHint(shim uint32) string {
	versions := fmt.Sprintf("its ABI is %d, the program's %d", shim, abiVersion)
	switch {
	case shim < abiVersion:
		return "the shim is older than this program (" + versions + "): rebuild the shim with `make build`"
	case shim > abiVersion:
		return "the shim is newer than this program (" + versions + "): rebuild the program from the shim's release"
	}
	return "it was built from other sources (" + versions + "): rebuild both with `make build`"
}

// checkSizes compares the size of every structure that crosses the boundary.
func (l *library) checkSizes() error {
	var wrong []string
	for _, m := range mirrors() {
		if size := l.callStructSize(m.which); size != m.size {
			wrong = append(wrong,
				fmt.Sprintf("%s has %d bytes in the shim and %d in this program", m.name, size, m.size))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s: shim and program were built from different sources; rebuild both with `make build`",
		ErrABI, strings.Join(wrong, "; "))
}
