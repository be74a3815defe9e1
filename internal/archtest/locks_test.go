package archtest_test

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// lockedWithout are functions named ...Locked that do not say which lock, each with its reason.
var lockedWithout = map[string]string{
	"cage.enqueueLocked":       "it has no table at hand",
	"cage.answerLocked":        "it has no table at hand",
	"cage.moveLocked":          "it has no table at hand; admitLocked comes before it",
	"exitcoord.noteStepLocked": "noteLocked says so",
}

// A function that needs a lock says so, in packages whose locks are checked: see internal/lockcheck.
func TestLocks_FunctionsNamedLockedAssertTheirs(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range goFiles(t) {
		if f.test || !slices.Contains(allowed[f.dir], "internal/lockcheck") || f.dir == "bridge" {
			continue
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || !strings.HasSuffix(fn.Name.Name, "Locked") {
				continue
			}
			name := f.dir + "." + fn.Name.Name
			seen[name] = true
			if _, excepted := lockedWithout[name]; excepted == asserts(fn) {
				t.Errorf("%s: %s: please begin it with AssertHeld, or list it here if it cannot; not both", f.at(d), name)
			}
		}
	}
	for name := range lockedWithout {
		if !seen[name] {
			t.Errorf("%s is gone: please take it off the list", name)
		}
	}
}

// asserts reports whether the first statement of a function is a call of AssertHeld.
func asserts(fn *ast.FuncDecl) bool {
	if len(fn.Body.List) == 0 {
		return false
	}
	stmt, ok := fn.Body.List[0].(*ast.ExprStmt)
	if !ok {
		return false
	}
	call, ok := stmt.X.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	return ok && sel.Sel.Name == "AssertHeld"
}
