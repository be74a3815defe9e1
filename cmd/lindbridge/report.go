package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/lindbridge/lindbridge/exitcoord"
)

// reportFile is where the exit report goes. It is opened before the program runs, so that a wrong name costs nothing.
type reportFile struct {
	to   io.Writer // nil: nowhere
	file *os.File  // to be closed, or nil
	json bool
}

// openReport opens the file that --exit-report names: "" for none, "-" for stdout.
func openReport(name string, stdout io.Writer) (*reportFile, error) {
	switch name {
	case "":
		return &reportFile{}, nil
	case "-":
		return &reportFile{to: stdout}, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("exit report: %w", err)
	}
	return &reportFile{to: f, file: f, json: strings.HasSuffix(name, ".json")}, nil
}

func (r *reportFile) write(report exitcoord.Report) error {
	if r.to == nil {
		return nil
	}
	var err error
	if r.json {
		enc := json.NewEncoder(r.to)
		enc.SetIndent("", "  ")
		err = enc.Encode(report)
	} else {
		_, err = fmt.Fprint(r.to, withNewline(report.String()))
	}
	if err != nil {
		return fmt.Errorf("exit report: %w", err)
	}
	return nil
}

func (r *reportFile) close() error {
	if r.file == nil {
		return nil
	}
	if err := r.file.Close(); err != nil {
		return &exitError{codeFailure, fmt.Errorf("exit report: %w", err)}
	}
	return nil
}
