package exitcoord_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// phasesOfCode are the phases and the moves between them as phase.go's source has them.
func phasesOfCode(t *testing.T) (phases, moves []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "phase.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GenDecl:
			if n.Tok != token.CONST {
				return true
			}
			for _, spec := range n.Specs {
				for _, name := range spec.(*ast.ValueSpec).Names {
					if name.IsExported() {
						phases = append(phases, name.Name)
					}
				}
			}
		case *ast.ValueSpec:
			if n.Names[0].Name != "transitions" {
				return true
			}
			for _, element := range n.Values[0].(*ast.CompositeLit).Elts {
				fields := element.(*ast.CompositeLit).Elts
				moves = append(moves, fmt.Sprint(fields[0], " -> ", fields[1]))
			}
		}
		return true
	})
	return phases, moves
}

var (
	modelPhase   = regexp.MustCompile(`(?m)^#define ([A-Z][a-z]+) (\d+)$`)
	modelEdge    = regexp.MustCompile(`(?m)^\tEDGE\(f, t, (\w+), (\w+)\)`)
	modelAdvance = regexp.MustCompile(`\badvance\(\w+, ([A-Z]\w+), ([A-Z]\w+)\)`)
	modelWrite   = regexp.MustCompile(`\bphase\[[^]]*\]\s*=[^=]`)
)

func TestModel_HasTheTransitionsOfTheTable(t *testing.T) {
	source, err := os.ReadFile("model/exit.pml")
	if err != nil {
		t.Fatal(err)
	}
	model := string(source)
	phases, moves := phasesOfCode(t)
	if len(phases) == 0 || len(moves) == 0 {
		t.Fatalf("phase.go has the phases %v and the moves %v: this test no longer understands it", phases, moves)
	}
	var got []string
	for i, m := range modelPhase.FindAllStringSubmatch(model, -1) {
		if m[2] != fmt.Sprint(i) {
			t.Errorf("the model's phase %s is %s, want %d", m[1], m[2], i)
		}
		got = append(got, m[1])
	}
	if !slices.Equal(got, phases) {
		t.Errorf("phases: please change both\nmodel:    %v\nphase.go: %v", got, phases)
	}
	table := pairs(modelEdge, model)
	if !slices.Equal(table, moves) {
		t.Errorf("transitions: please change both\nmodel:    %v\nphase.go: %v", table, moves)
	}
	// The moves that the model makes, beside those that it allows.
	made := pairs(modelAdvance, model)
	slices.Sort(made)
	made = slices.Compact(made)
	slices.Sort(moves)
	if !slices.Equal(made, moves) {
		t.Errorf("the model makes the moves\n%v\nand the table has\n%v", made, moves)
	}
	if n := len(modelWrite.FindAllString(model, -1)); n != 1 {
		t.Errorf("the model writes a phase in %d places, want 1: advance", n)
	}
}

func pairs(pattern *regexp.Regexp, text string) (found []string) {
	for _, m := range pattern.FindAllStringSubmatch(text, -1) {
		found = append(found, strings.Join(m[1:], " -> "))
	}
	return found
}

var (
	scriptRow = regexp.MustCompile(`(?m)^\t\t([A-Za-z_0-9-]+)\|(pass|bitstate|I[^|]*)\|`)
	readmeRow = regexp.MustCompile(`(?m)^\| ([a-z0-9, -]+) \| (?:[0-9]|over|as)`)
	mutation  = regexp.MustCompile(`MUT_([A-Z_]+)`)
)

// The model's README lists the configurations that the script checks, and each mutation that the model has is one of the
// script's or said to be invisible.
func TestModel_RowsAreThoseOfTheReadme(t *testing.T) {
	files := map[string]string{}
	for _, name := range []string{"model/exit.pml", "model/README.md", "../scripts/model.sh"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(b)
	}
	var configurations, listed []string
	mutations := map[string]bool{}
	for _, m := range scriptRow.FindAllStringSubmatch(files["../scripts/model.sh"], -1) {
		if strings.HasPrefix(m[2], "I") {
			mutations[m[1]] = true
		} else {
			configurations = append(configurations, m[1])
		}
	}
	for _, m := range readmeRow.FindAllStringSubmatch(files["model/README.md"], -1) {
		listed = append(listed, strings.Split(m[1], ", ")...)
	}
	if !slices.Equal(listed, configurations) || len(listed) == 0 {
		t.Errorf("the README lists\n%v\nand the script checks\n%v", listed, configurations)
	}
	if want := fmt.Sprintf("The %d mutations", len(mutations)); !strings.Contains(files["model/README.md"], want) {
		t.Errorf("the README does not say %q", want)
	}
	for _, m := range mutation.FindAllStringSubmatch(files["model/exit.pml"], -1) {
		if mutations[m[1]] {
			delete(mutations, m[1])
		}
	}
	if len(mutations) != 0 {
		t.Errorf("rows of mutations that the model does not have: %v", mutations)
	}
}
