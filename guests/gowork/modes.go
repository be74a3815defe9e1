package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// goroutines sends n numbers through a chain of n goroutines and adds them up under a mutex.
func goroutines(n int) error {
	first := make(chan int)
	in := first
	for range n {
		out := make(chan int, 1)
		go func(in <-chan int, out chan<- int) {
			defer close(out)
			for v := range in {
				out <- v + 1
			}
		}(in, out)
		in = out
	}
	go func() {
		defer close(first)
		for i := range n {
			first <- i
		}
	}()
	var (
		mu  sync.Mutex
		sum int
		wg  sync.WaitGroup
	)
	for v := range in {
		wg.Go(func() {
			mu.Lock()
			defer mu.Unlock()
			sum += v
		})
	}
	wg.Wait()
	if want := n*(n-1)/2 + n*n; sum != want {
		return fmt.Errorf("sum %d, want %d", sum, want)
	}
	fmt.Printf("ok goroutines: %d, sum %d\n", n, sum)
	return nil
}

// timers checks order, never how long something took: a busy machine may be slow, but not early.
func timers() error {
	start := time.Now()
	var order []string
	late, early := time.NewTimer(60*time.Millisecond), time.NewTimer(10*time.Millisecond)
	stopped := time.NewTimer(20 * time.Millisecond)
	if !stopped.Stop() {
		return errors.New("a timer of 20 ms fired before it was stopped")
	}
	for range 2 {
		select {
		case <-late.C:
			order = append(order, "late")
		case <-early.C:
			order = append(order, "early")
		case <-stopped.C:
			return errors.New("a stopped timer fired")
		}
	}
	if got := strings.Join(order, " "); got != "early late" {
		return fmt.Errorf("timers fired in the order %q", got)
	}
	if d := time.Since(start); d < 60*time.Millisecond {
		return fmt.Errorf("60 ms were over after %v", d)
	}
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	last := time.Time{}
	for range 3 {
		at := <-ticker.C
		if !at.After(last) {
			return errors.New("a tick that is not after the one before it")
		}
		last = at
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	<-ctx.Done()
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("a context past its deadline says %w", ctx.Err())
	}
	fmt.Println("ok timers")
	return nil
}

func stdin() error {
	in := bufio.NewReader(os.Stdin)
	lines, bytes := 0, 0
	for {
		line, err := in.ReadString('\n')
		bytes += len(line)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				return err
			}
			break
		}
		lines++
	}
	fmt.Printf("ok stdin: %d lines, %d bytes\n", lines, bytes)
	return nil
}

func printArgs(args []string) error {
	for i, a := range args {
		fmt.Printf("arg %d: %s\n", i, a)
	}
	env := os.Environ()
	sort.Strings(env)
	for _, e := range env {
		fmt.Printf("env: %s\n", e)
	}
	fmt.Println("ok args")
	return nil
}

// panicDeep panics depth calls further in, so that the stack trace has something to show.
//
//go:noinline
func panicDeep(depth int) {
	if depth == 0 {
		panic("gowork: a panic that was asked for")
	}
	panicDeep(depth - 1)
}

// spins is shared so that no compiler can drop the loop.
var spins atomic.Uint64

func spin() {
	for {
		spins.Add(1)
	}
}
