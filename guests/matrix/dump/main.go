// Command dump writes the programs of package matrix as .wat files, to be run by hand:
//
//	go run ./guests/matrix/dump DIR
//
// The file of the case main/trap/while_spin is DIR/main-trap-while_spin.wat. Beside it, DIR/expected.txt lists what each
// must end with.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/lindbridge/lindbridge/guests/matrix"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: dump DIR")
		os.Exit(2)
	}
	if err := dump(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "dump:", err)
		os.Exit(1)
	}
}

func dump(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var expected strings.Builder
	for _, c := range append(matrix.Cases(), matrix.Proposal()...) {
		name := strings.ReplaceAll(c.Name, "/", "-") + ".wat"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(c.Wat), 0o644); err != nil {
			return err
		}
		fmt.Fprint(&expected, name)
		for _, o := range c.Want {
			if o.Signal != 0 {
				fmt.Fprintf(&expected, "\t%s signal %d", o.Cause, o.Signal)
			} else {
				fmt.Fprintf(&expected, "\t%s code %d", o.Cause, o.Code)
			}
		}
		fmt.Fprintln(&expected)
	}
	return os.WriteFile(filepath.Join(dir, "expected.txt"), []byte(expected.String()), 0o644)
}
