package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// files works below dir/gowork, which must not be there, and removes it at the end.
func files(dir string) error {
	root := filepath.Join(dir, "gowork")
	deep := filepath.Join(root, "a", "b", "c")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	if err := os.MkdirAll(deep, 0o755); err != nil {
		return err
	}
	for i := range 50 {
		name := filepath.Join(deep, fmt.Sprintf("file-%02d", i))
		if err := os.WriteFile(name, bytes.Repeat([]byte{byte(i)}, i*100), 0o644); err != nil {
			return err
		}
	}
	for _, step := range []func(root, deep string) error{checkContent, checkSeek, checkRename, checkTimes, checkErrors} {
		if err := step(root, deep); err != nil {
			return err
		}
	}
	found := 0
	err := filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			found++
		}
		return err
	})
	if err != nil {
		return err
	}
	if found != 51 {
		return fmt.Errorf("walked over %d files, want 51", found)
	}
	if err := os.RemoveAll(root); err != nil {
		return err
	}
	if _, err := os.Stat(root); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("stat of what was removed: %w", err)
	}
	fmt.Println("ok files")
	return nil
}

func checkContent(_, deep string) error {
	entries, err := os.ReadDir(deep)
	if err != nil {
		return err
	}
	if len(entries) != 50 {
		return fmt.Errorf("%d entries, want 50", len(entries))
	}
	for i, e := range entries {
		if want := fmt.Sprintf("file-%02d", i); e.Name() != want {
			return fmt.Errorf("entry %d is %q, want %q", i, e.Name(), want)
		}
		b, err := os.ReadFile(filepath.Join(deep, e.Name()))
		if err != nil {
			return err
		}
		if !bytes.Equal(b, bytes.Repeat([]byte{byte(i)}, i*100)) {
			return fmt.Errorf("%s: wrong content", e.Name())
		}
	}
	return nil
}

// checkSeek leaves root/seek behind: 10 bytes, cut and filled with zeros in between.
func checkSeek(root, _ string) error {
	f, err := os.OpenFile(filepath.Join(root, "seek"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, w := range []struct {
		at   int64
		text string
	}{{0, "0123456789abcdef"}, {4, "four"}, {12, "end!"}} {
		if _, err := f.WriteAt([]byte(w.text), w.at); err != nil {
			return err
		}
	}
	if err := f.Truncate(6); err != nil {
		return err
	}
	if err := f.Truncate(10); err != nil {
		return err
	}
	if _, err := f.Seek(-8, 2); err != nil {
		return err
	}
	b := make([]byte, 8)
	if n, err := f.Read(b); err != nil || n != 8 || string(b) != "23fo\x00\x00\x00\x00" {
		return fmt.Errorf("read %d bytes %q: %w", n, b, err)
	}
	return f.Sync()
}

func checkRename(root, deep string) error {
	from, to := filepath.Join(deep, "file-07"), filepath.Join(root, "moved")
	if err := os.Rename(from, to); err != nil {
		return err
	}
	if _, err := os.Stat(from); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("stat of the old name: %w", err)
	}
	info, err := os.Stat(to)
	if err != nil {
		return err
	}
	if info.Size() != 700 || !info.Mode().IsRegular() {
		return fmt.Errorf("moved file: %d bytes, mode %v", info.Size(), info.Mode())
	}
	return nil
}

func checkTimes(root, _ string) error {
	name, when := filepath.Join(root, "moved"), time.Unix(1_000_000_000, 123_000_000)
	if err := os.Chtimes(name, when, when); err != nil {
		return err
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if !info.ModTime().Equal(when) {
		return fmt.Errorf("modified at %v, want %v", info.ModTime(), when)
	}
	return nil
}

// checkErrors wants the errors that Go's library tells apart, and no way out of the directory.
func checkErrors(root, deep string) error {
	if _, err := os.Open(filepath.Join(root, "nothing")); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("open of a missing file: %w", err)
	}
	if err := os.Mkdir(deep, 0o755); !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("mkdir of what is there: %w", err)
	}
	if err := os.Remove(deep); err == nil {
		return errors.New("a directory with files in it was removed")
	}
	if _, err := os.ReadFile(root); err == nil {
		return errors.New("a directory was read as a file")
	}
	if _, err := os.Stat("/" + strings.Repeat("../", 20) + "etc/passwd"); err == nil {
		return errors.New("a path led out of the directories that were given")
	}
	return nil
}
