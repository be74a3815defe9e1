package archtest_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// This file implements what the rules look at: the Go files of the repository, parsed once.

const (
	module = "github.com/lindbridge/lindbridge"
	root   = "../.."
)

// goFile is one Go file of the tree, whatever its build constraints.
type goFile struct {
	path string // from the root, with slashes
	dir  string // the package's directory from the root; "." for the root package
	test bool
	fset *token.FileSet
	ast  *ast.File
}

// at is where node stands, as "path:line".
func (f *goFile) at(node ast.Node) string {
	return fmt.Sprintf("%s:%d", f.path, f.fset.Position(node.Pos()).Line)
}

// guest reports whether the file is a program that runs inside a cage.
func (f *goFile) guest() bool { return strings.HasPrefix(f.path, "guests/gowork/") }

// command reports whether the file is a program of its own.
func (f *goFile) command() bool { return f.ast.Name.Name == "main" }

// skipDirs are never looked into: outputs, and what is not ours.
var skipDirs = []string{".git", "build", "target", "node_modules", "shared"}

// walk calls fn with each regular file of the tree: its path from the root, with slashes.
func walk(t *testing.T, fn func(rel string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains(skipDirs, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		fn(filepath.ToSlash(rel))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

var parseTree = sync.OnceValues(func() ([]*goFile, error) {
	var files []*goFile
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains(skipDirs, d.Name()) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(p, ".go") || strings.Contains(filepath.ToSlash(p), "/testdata/") {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, p, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		files = append(files, &goFile{
			path: rel, dir: path.Dir(rel), test: strings.HasSuffix(rel, "_test.go"), fset: fset, ast: f,
		})
		return nil
	})
	return files, err
})

// goFiles are all Go files of the tree.
func goFiles(t *testing.T) []*goFile {
	t.Helper()
	files, err := parseTree()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("only %d Go files below %s: not the repository?", len(files), root)
	}
	return files
}

// packages are the directories with Go files that are not tests, each with those files.
func packages(t *testing.T) map[string][]*goFile {
	t.Helper()
	byDir := map[string][]*goFile{}
	for _, f := range goFiles(t) {
		if !f.test {
			byDir[f.dir] = append(byDir[f.dir], f)
		}
	}
	return byDir
}

// imports are the import paths of the file.
func (f *goFile) imports() []string {
	var paths []string
	for _, spec := range f.ast.Imports {
		paths = append(paths, strings.Trim(spec.Path.Value, `"`))
	}
	return paths
}

// read is the content of a file of the tree.
func read(t *testing.T, rel string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(rel)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
