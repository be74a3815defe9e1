package archtest_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// allowed are the packages of the project that each package may import, outside its tests: the arrows of ARCHITECTURE.md.
// The root package composes, so it may import all that it composes; nothing else imports the root, save programs.
var allowed = map[string][]string{
	"abi":                nil,
	"internal/archtest":  nil,
	"internal/fault":     nil,
	"internal/guestmem":  nil,
	"internal/ids":       nil,
	"internal/leakcheck": nil,
	"internal/lockcheck": nil,
	"internal/release":   nil,

	"exitcoord": {"abi", "internal/lockcheck"},
	"fdtables":  {"abi", "internal/ids", "internal/release"},
	"cage":      {"abi", "internal/ids", "internal/lockcheck"},
	"bridge":    {"abi", "internal/guestmem", "internal/lockcheck"},
	"threei": {
		"abi", "exitcoord", "internal/guestmem", "internal/ids", "internal/lockcheck", "internal/release",
	},

	"rawposix": {"abi", "cage", "fdtables", "internal/fault", "internal/guestmem", "internal/ids", "threei"},
	"wasip1":   {"abi", "internal/guestmem", "internal/ids", "threei"},
	"lindabi":  {"abi", "threei"},

	".": {
		"abi", "bridge", "cage", "exitcoord", "fdtables", "internal/fault", "internal/guestmem", "internal/ids",
		"internal/lockcheck", "lindabi", "rawposix", "threei", "wasip1",
	},
	"cmd/lindbridge": {".", "exitcoord", "internal/soak"},
	"internal/soak": {
		".", "abi", "bridge", "exitcoord", "guests/matrix", "internal/fault", "internal/leakcheck",
	},
	"examples/quickstart": {"."},

	"guests/gowork":      nil,
	"guests/matrix":      nil,
	"guests/matrix/dump": {"guests/matrix"},

	// A module of its own, so that who uses this one does not get what it depends on. Nothing imports it.
	"bench": {
		"bench/internal/drive", "bench/internal/ours", "bench/internal/plots", "bench/internal/record", "bench/internal/stat",
		"bench/internal/wazero",
	},
	"bench/internal/drive":  nil,
	"bench/internal/ours":   {".", "bench/internal/drive", "guests/matrix"},
	"bench/internal/plots":  {"bench/internal/record"},
	"bench/internal/record": {"bench/internal/stat"},
	"bench/internal/stat":   nil,
	"bench/internal/wazero": {"bench/internal/drive"},
}

func TestImports_FollowTheArrows(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		may, known := allowed[f.dir]
		if !known {
			t.Errorf("%s: package %s has no place in the picture: please add it to ARCHITECTURE.md and to this test",
				f.path, f.dir)
			continue
		}
		for _, p := range f.imports() {
			dir, ours := ourPackage(p)
			if ours && !slices.Contains(may, dir) {
				t.Errorf("%s: %s may not import %s: please let package lindbridge bring the two together",
					f.path, f.dir, dir)
			}
		}
	}
}

// ourPackage is the directory of an import path of this module.
func ourPackage(importPath string) (dir string, ok bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

func TestImports_ArrowsHaveNoCycleAndNameOnlyPackagesThatExist(t *testing.T) {
	have := packages(t)
	for from, to := range allowed {
		if _, ok := have[from]; !ok {
			t.Errorf("%s is in the picture but not in the tree", from)
		}
		for _, dir := range to {
			if _, ok := allowed[dir]; !ok {
				t.Errorf("%s may import %s, which is not in the picture", from, dir)
			}
		}
	}
	var visit func(dir string, path []string)
	visit = func(dir string, path []string) {
		if slices.Contains(path, dir) {
			t.Fatalf("a cycle of arrows: %s", strings.Join(append(path, dir), " -> "))
		}
		for _, next := range allowed[dir] {
			visit(next, append(path, dir))
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(allowed)) {
		visit(dir, nil)
	}
}

// libraries are the modules outside the standard library that packages may use, outside their tests. Everything else is a
// decision to be made in go.mod and here, on purpose.
var libraries = map[string][]string{
	"golang.org/x/sys":              {"*"},
	"github.com/ebitengine/purego":  {"bridge"},
	"github.com/google/shlex":       {"cmd/lindbridge"},
	"github.com/petermattis/goid":   {"internal/lockcheck"},
	"github.com/spf13/cobra":        {"cmd/lindbridge"},
	"github.com/tetratelabs/wazero": {"bench/internal/wazero"},
	"gonum.org/v1/plot":             {"bench/internal/plots"},
}

func TestImports_UseOnlyTheLibrariesThatWereChosen(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		for _, p := range f.imports() {
			first, _, _ := strings.Cut(p, "/")
			if _, ours := ourPackage(p); ours || !strings.Contains(first, ".") {
				continue
			}
			if !mayUse(f.dir, p) {
				t.Errorf("%s: %s may not import %s: please use the standard library, or add it to this test's list",
					f.path, f.dir, p)
			}
		}
	}
}

func mayUse(dir, importPath string) bool {
	for lib, dirs := range libraries {
		if importPath == lib || strings.HasPrefix(importPath, lib+"/") {
			return slices.Contains(dirs, "*") || slices.Contains(dirs, dir)
		}
	}
	return false
}
