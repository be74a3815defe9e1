package lindbridge

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/guests/matrix"
)

// grateWait is how long anything of these tests may take, which should take microseconds.
const grateWait = 60 * time.Second

// backstage is a runtime whose inside the test uses, with guests of matrix that say something.
type backstage struct {
	t         *testing.T
	rt        *Runtime
	said, say *os.File
}

func newBackstage(t *testing.T, cfg Config) *backstage {
	t.Helper()
	b := &backstage{t: t}
	var err error
	if b.said, b.say, err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(b.said.Close(), b.say.Close()); err != nil {
			t.Error(err)
		}
	})
	if b.rt, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), grateWait)
		defer cancel()
		if err := b.rt.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return b
}

// hear is what the guests say next.
func (b *backstage) hear() (tag, value int32) {
	b.t.Helper()
	if err := b.said.SetReadDeadline(time.Now().Add(grateWait)); err != nil {
		b.t.Fatal(err)
	}
	tag, value, err := matrix.ReadNote(b.said)
	if err != nil {
		b.t.Fatalf("nobody says anything: %v", err)
	}
	return tag, value
}

// want wants this to be said next.
func (b *backstage) want(tag, value int32) {
	b.t.Helper()
	if gotTag, got := b.hear(); gotTag != tag || got != value {
		b.t.Fatalf("said %d: %d, want %d: %d", gotTag, got, tag, value)
	}
}

// line is a guest's input, for the test to write to.
func (b *backstage) line() (in, out *os.File) {
	b.t.Helper()
	in, out, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { in.Close(); out.Close() })
	return in, out
}

// tell writes a number, for matrix.Guest to read as an i64.
func (b *backstage) tell(out *os.File, value uint64) {
	b.t.Helper()
	if _, err := out.Write(binary.LittleEndian.AppendUint64(nil, value)); err != nil {
		b.t.Error(err)
	}
}

// told has the address 800 have what tell wrote.
const told = `(if (i32.ne (call $on (i32.const 0) (call $self) (i64.const 0) (i64.const 0)
	(call $address (i32.const 800)) (call $self) (i64.const 8) (i64.const 0)) (i32.const 8)) (then unreachable))`

func (b *backstage) app(g matrix.Guest) Program {
	b.t.Helper()
	m, err := b.rt.Load(b.t.Context(), []byte(g.Wat()))
	if err != nil {
		b.t.Fatal(err)
	}
	return Program{Module: m, Stdout: b.say}
}

func (b *backstage) grate(g matrix.Guest) Grate {
	b.t.Helper()
	m, err := b.rt.LoadGrate(b.t.Context(), []byte(g.Wat()))
	if err != nil {
		b.t.Fatal(err)
	}
	return Grate{Program: Program{Module: m, Stdout: b.say}}
}

func (b *backstage) stack(app Program, grates ...Grate) *Stack {
	b.t.Helper()
	s, err := b.rt.SpawnStack(b.t.Context(), app, grates...)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *backstage) spawn(p Program) *Cage {
	b.t.Helper()
	c, err := b.rt.Spawn(b.t.Context(), p)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// finish waits for cages.
func (b *backstage) finish(cages ...*Cage) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), grateWait)
	defer cancel()
	for _, c := range cages {
		if _, err := c.Wait(ctx); err != nil {
			b.t.Fatalf("%v\n%v", err, c.Report())
		}
	}
}
