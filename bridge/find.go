package bridge

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// This file implements the search for the shim:
//
//   - Config.Path, or else the environment variable EnvShim. Whichever is set decides alone: if it fails, nothing else
//     is tried, so that a program never runs with another shim than it was told to.
//   - else beside the executable, in ../lib/ of it, in build/ of a source tree, and by the system's loader. The first
//     file that exists decides alone, likewise.

const (
	// EnvShim is the environment variable that names the shim's file, unless Config.Path does.
	EnvShim = "LINDBRIDGE_SHIM"

	soname     = "liblindshim.so"
	modulePath = "github.com/lindbridge/lindbridge"
	howToBuild = "build it with `make build` in the source tree, or set " + EnvShim + " to its path"
)

// place is where a shim may be.
type place struct {
	path   string
	soname bool   // path is a plain name, which the loader searches for
	why    string // how the path came to be tried, for people
	err    error  // why nothing was loaded; set at once, with no path, if there is nothing to try
}

// findShim loads the shim from the first place that has one.
func findShim(explicit string) (*library, error) {
	var tried []place
	for _, p := range places(explicit) {
		if p.err == nil {
			var lib *library
			if lib, p.err = p.load(); p.err == nil {
				return lib, nil
			}
		}
		tried = append(tried, p)
		if p.path != "" && !isMissing(p.err) {
			break
		}
	}
	return nil, notFound(tried)
}

// places lists what to try, in order.
func places(explicit string) []place {
	if explicit != "" {
		return []place{{path: explicit, why: "Config.Path"}}
	}
	if env := os.Getenv(EnvShim); env != "" {
		return []place{{path: env, why: EnvShim}}
	}
	list := besideExecutable()
	list = append(list, inSourceTree()...)
	return append(list, place{path: soname, soname: true, why: "the system's loader"})
}

func besideExecutable() []place {
	exe, err := os.Executable()
	if err == nil {
		exe, err = filepath.EvalSymlinks(exe)
	}
	if err != nil {
		return []place{{why: "next to the executable", err: err}}
	}
	dir := filepath.Dir(exe)
	return []place{
		{path: filepath.Join(dir, soname), why: "next to the executable"},
		{path: filepath.Join(filepath.Dir(dir), "lib", soname), why: "../lib of the executable"},
	}
}

// inSourceTree lists build/ of the working directory and of its parents, up to the top of our source tree. Outside such
// a tree there is nothing to try: a program must not load code from whatever directory it happens to be started in.
func inSourceTree() []place {
	const why = "build directory of the source tree"
	wd, err := os.Getwd()
	if err != nil {
		return []place{{why: why, err: err}}
	}
	var list []place
	for dir := wd; ; dir = filepath.Dir(dir) {
		list = append(list, place{path: filepath.Join(dir, "build", soname), why: why})
		if isOurModule(filepath.Join(dir, "go.mod")) {
			return list
		}
		if dir == filepath.Dir(dir) {
			return []place{{why: why, err: fmt.Errorf("%s is not in a source tree of %s", wd, modulePath)}}
		}
	}
}

// isOurModule reports whether the go.mod file at path is lindbridge's own.
func isOurModule(path string) bool {
	text, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "module" {
			return strings.Trim(f[1], `"`) == modulePath
		}
	}
	return false
}

// load loads the shim at p.
func (p place) load() (*library, error) {
	if p.soname {
		return process.library(p.path)
	}
	// dlopen searches for a name without a slash, and a file is one library however it is spelled.
	path, err := filepath.Abs(p.path)
	if err != nil {
		return nil, err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return nil, err
	}
	return process.library(path)
}

// isMissing reports whether err says that there is no such file, so that the next place is tried.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}

// notFound is the one error of a search that failed. It wraps ErrShimNotFound if no place had a shim that could be
// loaded at all, and ErrABI if the shim that was loaded does not fit.
func notFound(tried []place) error {
	last := tried[len(tried)-1]
	if errors.Is(last.err, ErrABI) {
		return fmt.Errorf("load shim %s (%s): %w", last.path, last.why, last.err)
	}
	var text strings.Builder
	causes := []error{ErrShimNotFound}
	for _, p := range tried {
		text.WriteString("\n\t")
		if p.path != "" {
			fmt.Fprintf(&text, "%s (%s): ", p.path, p.why)
		} else {
			fmt.Fprintf(&text, "%s: ", p.why)
		}
		text.WriteString(reason(p.err))
		causes = append(causes, p.err)
	}
	return &searchError{
		text:   ErrShimNotFound.Error() + ": " + howToBuild + "; tried:" + text.String(),
		causes: causes,
	}
}

// reason is err without the path that a *fs.PathError repeats.
func reason(err error) string {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err.Error()
	}
	return err.Error()
}

// searchError is a failed search, with each place's own error.
type searchError struct {
	text   string
	causes []error
}

func (e *searchError) Error() string { return e.text }

// Unwrap makes errors.Is find ErrShimNotFound, and what went wrong at each place.
func (e *searchError) Unwrap() []error { return e.causes }
