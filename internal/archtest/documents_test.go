package archtest_test

import (
	"go/ast"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// goTestNames are the names of all Go tests, benchmarks, fuzz targets and examples in the tree.
func goTestNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, f := range goFiles(t) {
		if !f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				names[fn.Name.Name] = true
			}
		}
	}
	return names
}

var rustFn = regexp.MustCompile(`(?m)^\s*fn ([a-z0-9_]+)\s*\(`)

// rustFunctions are the names of all functions in the shim's sources and tests.
func rustFunctions(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	walk(t, func(rel string) {
		if path.Ext(rel) != ".rs" {
			return
		}
		for _, m := range rustFn.FindAllStringSubmatch(read(t, rel), -1) {
			names[m[1]] = true
		}
	})
	return names
}

var (
	goTestName   = regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)*\b`)
	rustTestName = regexp.MustCompile("`rust: ([a-z0-9_]+)`")
)

// A table that says where a promise is tested is worth nothing once the test has another name.
func TestDocuments_NameOnlyTestsThatExist(t *testing.T) {
	goNames, rustNames := goTestNames(t), rustFunctions(t)
	for _, rel := range documents(t) {
		text := read(t, rel)
		for _, name := range goTestName.FindAllString(text, -1) {
			if !goNames[name] {
				t.Errorf("%s names %s, which is no Go test", rel, name)
			}
		}
		for _, m := range rustTestName.FindAllStringSubmatch(text, -1) {
			if !rustNames[m[1]] {
				t.Errorf("%s names %s, which is no Rust test", rel, m[1])
			}
		}
	}
}

// invariantRow is a row of the table in ARCHITECTURE.md: the promise, where it is enforced, where it is tested.
var invariantRow = regexp.MustCompile(`(?m)^\| (I[0-9]+ [^|]*)\|([^|]*)\|([^|]*)\|$`)

func TestArchitecture_NamesATestForEachInvariant(t *testing.T) {
	rows := invariantRow.FindAllStringSubmatch(read(t, "ARCHITECTURE.md"), -1)
	if len(rows) != 10 {
		t.Errorf("%d invariants, want the 10 of the exit protocol", len(rows))
	}
	for _, row := range rows {
		if !goTestName.MatchString(row[3]) && !rustTestName.MatchString(row[3]) {
			t.Errorf("%s: please name a test", row[1])
		}
	}
}

// documents are the Markdown files of the tree.
func documents(t *testing.T) []string {
	t.Helper()
	var docs []string
	walk(t, func(rel string) {
		if path.Ext(rel) == ".md" {
			docs = append(docs, rel)
		}
	})
	return docs
}

var link = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)`)

func TestDocuments_LinkOnlyToWhatExists(t *testing.T) {
	for _, rel := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, rel), -1) {
			target := m[1]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, path.Dir(rel), target)); err != nil {
				t.Errorf("%s links to %s, which is not there", rel, target)
			}
		}
	}
}

// Files that ARCHITECTURE.md names in code font, as `exitcoord/cleanup.go`.
var fileName = regexp.MustCompile("`([a-z0-9_./-]+\\.(?:go|rs|h|sh|md|toml|wat|c))`")

func TestArchitecture_NamesOnlyFilesThatExist(t *testing.T) {
	const doc = "ARCHITECTURE.md"
	for _, m := range fileName.FindAllStringSubmatch(read(t, doc), -1) {
		if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(m[1]))); err != nil {
			t.Errorf("%s names %s, which is not there", doc, m[1])
		}
	}
}

func TestArchitecture_IsShortEnoughToRead(t *testing.T) {
	const limit = 310
	if n := strings.Count(read(t, "ARCHITECTURE.md"), "\n"); n > limit {
		t.Errorf("ARCHITECTURE.md has %d lines, want at most %d: please link, not copy", n, limit)
	}
}

// The example in the README is a program that is built, word for word.
func TestReadme_ShowsTheQuickstart(t *testing.T) {
	src := read(t, "examples/quickstart/main.go")
	_, body, found := strings.Cut(src, "package main\n\n")
	if !found || !strings.Contains(read(t, "README.md"), "```go\n"+body+"```\n") {
		t.Error("README.md does not show examples/quickstart/main.go as it is: please copy it there again")
	}
}
