package archtest_test

import (
	"go/ast"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPackages_HaveOneDocInDocGo(t *testing.T) {
	for dir, files := range packages(t) {
		var docs []string
		for _, f := range files {
			if f.ast.Doc != nil {
				docs = append(docs, f.path)
			}
		}
		switch {
		case len(docs) != 1:
			t.Errorf("%s: %d files with a package comment %v: please have one", dir, len(docs), docs)
		case len(files) > 1 && !files[0].command() && !strings.HasSuffix(docs[0], "doc.go"):
			t.Errorf("%s: please move the package comment to doc.go", docs[0])
		}
	}
}

// unsafeAllowed are files whose names must say something else, each with its reason.
var unsafeAllowed = map[string]string{
	"bridge/callback_cgo.go": `cgo: an //export function receives a C pointer`,
}

func TestUnsafe_StandsOnlyInFilesThatSaySo(t *testing.T) {
	for _, f := range goFiles(t) {
		named := strings.HasSuffix(f.path, "_unsafe.go") || strings.HasSuffix(f.path, "_unsafe_test.go")
		if f.test && !named {
			continue // not part of what anybody runs
		}
		uses := slices.Contains(f.imports(), "unsafe") || slices.Contains(f.imports(), "C")
		if _, ok := unsafeAllowed[f.path]; uses && !named && !ok {
			t.Errorf("%s imports unsafe or C: please move that part to a file called *_unsafe.go", f.path)
		}
		if named && !uses {
			t.Errorf("%s does not use unsafe: please call it otherwise", f.path)
		}
	}
	have := map[string]bool{}
	for _, f := range goFiles(t) {
		have[f.path] = true
	}
	for path := range unsafeAllowed {
		if !have[path] {
			t.Errorf("%s is gone: please take it off the list", path)
		}
	}
}

// forbidden are functions that no package below cmd/ may call, and what to use.
var forbidden = map[string]string{
	"time.Sleep":           "please wait for an event, with a deadline",
	"time.Tick":            "please wait for an event, with a deadline",
	"os.Exit":              "please return an error: only a command ends the process",
	"log.Fatal":            "please return an error: only a command ends the process",
	"log.Fatalf":           "please return an error: only a command ends the process",
	"log.Fatalln":          "please return an error: only a command ends the process",
	"fmt.Print":            "please write to a writer that the caller gave",
	"fmt.Printf":           "please write to a writer that the caller gave",
	"fmt.Println":          "please write to a writer that the caller gave",
	"runtime.SetFinalizer": "please have an explicit Close",
	"runtime.AddCleanup":   "please have an explicit Close",
}

// forbiddenAtomics are the functions of sync/atomic on plain words, which a plain access can bypass.
var (
	forbiddenAtomics = []string{"Add", "Load", "Store", "Swap", "CompareAndSwap", "And", "Or"}
	plainWord        = regexp.MustCompile(`^(Int|Uint|Pointer)`)
)

// mayCall reports whether the rule leaves this call out: commands print and end the process, and so do a TestMain and an
// example.
func mayCall(f *goFile, call string) bool {
	switch {
	case call == "time.Sleep" && f.test && slices.Contains(f.imports(), "testing/synctest"):
		return true // in a bubble of synctest it moves a clock of its own, and waits for nothing
	case strings.HasPrefix(call, "time."), strings.HasPrefix(call, "runtime."):
		return false
	}
	return f.command() || f.test
}

func TestCalls_NeverSleepExitOrPrint(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.guest() {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			call := pkg.Name + "." + sel.Sel.Name
			if cure, bad := forbidden[call]; bad && !mayCall(f, call) {
				t.Errorf("%s: %s: %s", f.at(n), call, cure)
			}
			if pkg.Name == "atomic" && !strings.HasSuffix(f.path, "_unsafe.go") {
				for _, verb := range forbiddenAtomics {
					if rest, ok := strings.CutPrefix(sel.Sel.Name, verb); ok && plainWord.MatchString(rest) {
						t.Errorf("%s: %s: please use an atomic type", f.at(n), call)
					}
				}
			}
			return true
		})
	}
}

func TestPackages_DoNoWorkInInit(t *testing.T) {
	for _, f := range goFiles(t) {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" && !f.test {
				t.Errorf("%s: init: please do it where it is needed, and return its error", f.at(d))
			}
		}
	}
}

func TestMutexes_AreCalledMu(t *testing.T) {
	for _, f := range goFiles(t) {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			field, ok := n.(*ast.Field)
			if !ok || !isMutex(field.Type) {
				return true
			}
			for _, name := range field.Names {
				if name.Name != "mu" && !strings.HasSuffix(name.Name, "Mu") {
					t.Errorf("%s: mutex %s: please call it mu, or xxxMu", f.at(name), name.Name)
				}
			}
			return true
		})
	}
}

func isMutex(e ast.Expr) bool {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && pkg.Name == "sync" && (sel.Sel.Name == "Mutex" || sel.Sel.Name == "RWMutex")
}

func TestExported_HaveDocComments(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test || f.command() {
			continue
		}
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && receiverExported(d) && d.Doc == nil {
					t.Errorf("%s: %s: please document it", f.at(d), d.Name.Name)
				}
			case *ast.GenDecl:
				checkSpecs(t, f, d)
			}
		}
	}
}

// receiverExported reports whether d is a function, or a method of an exported type.
func receiverExported(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	e := d.Recv.List[0].Type
	if star, ok := e.(*ast.StarExpr); ok {
		e = star.X
	}
	if index, ok := e.(*ast.IndexExpr); ok {
		e = index.X
	}
	id, ok := e.(*ast.Ident)
	return ok && id.IsExported()
}

// checkSpecs wants a comment on each exported name, or one on the group that it stands in.
func checkSpecs(t *testing.T, f *goFile, d *ast.GenDecl) {
	t.Helper()
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if spec.Name.IsExported() && d.Doc == nil && spec.Doc == nil {
				t.Errorf("%s: type %s: please document it", f.at(spec), spec.Name.Name)
			}
		case *ast.ValueSpec:
			for _, name := range spec.Names {
				if name.IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
					t.Errorf("%s: %s: please document it, or its group", f.at(name), name.Name)
				}
			}
		}
	}
}

func TestLines_FitTheScreen(t *testing.T) {
	// A line with a string may be longer, to break a message in two is to make it hard to find; and so may one of a test,
	// where a case of a table is best read on one.
	const limit, relaxed = 124, 160
	for _, f := range goFiles(t) {
		for i, line := range strings.Split(read(t, f.path), "\n") {
			width := utf8.RuneCountInString(line)
			if width <= limit || width <= relaxed && (f.test || strings.ContainsAny(line, "\"`")) {
				continue
			}
			t.Errorf("%s:%d: %d columns: please break the line", f.path, i+1, width)
		}
	}
}

func TestFiles_AreShortEnoughToRead(t *testing.T) {
	const limit = 600
	for _, f := range goFiles(t) {
		lines := f.fset.Position(f.ast.FileEnd).Line
		if lines > limit && !f.test {
			t.Errorf("%s: %d lines: please split it by responsibility", f.path, lines)
		}
	}
}
