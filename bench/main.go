package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/lindbridge/lindbridge/bench/internal/drive"
	"github.com/lindbridge/lindbridge/bench/internal/ours"
	"github.com/lindbridge/lindbridge/bench/internal/wazero"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 2 && args[0] == "drive" {
		return contestant(args[1])
	}
	return errors.New("usage")
}

// contestant is this program as one of those that are compared.
func contestant(name string) (err error) {
	var d interface {
		Do(*drive.Request) (drive.Reply, error)
		Close() error
	}
	switch name {
	case "lindbridge":
		d, err = ours.New()
	case "wazero":
		d, err = wazero.New()
	default:
		err = fmt.Errorf("no contestant %q: want lindbridge or wazero", name)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return drive.Serve(os.Stdin, os.Stdout, d.Do)
}
