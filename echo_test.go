package lindbridge_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge"
)

// connections is how many clients an echo server has at once.
const connections = 500

// echoServer is a server of the guest lind-echo, and the port that it listens at.
func echoServer(t *testing.T, rt *lindbridge.Runtime, how string) (*lindbridge.Cage, *bufio.Reader, string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	c := spawn(t, rt, lindbridge.Program{
		Module: guest(t, rt, "lind-echo"), Args: []string{"lind-echo", how, fmt.Sprint(connections)},
		Stdout: w, Stderr: os.Stderr, Network: lindbridge.NetworkLoopback,
	})
	w.Close()
	out := bufio.NewReader(r)
	var port int
	if _, err := fmt.Fscanf(out, "port %d\n", &port); err != nil {
		t.Fatalf("%s: no port: %v", how, err)
	}
	return c, out, fmt.Sprintf("127.0.0.1:%d", port)
}

// dial is connections to the server.
func dial(t *testing.T, addr string) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, connections)
	for i := range conns {
		conn, err := net.DialTimeout("tcp", addr, patience)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		t.Cleanup(func() { conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		conns[i] = conn
	}
	return conns
}

// echoOne sends a byte by each connection and waits until it comes back: the server has accepted all of them then.
func echoOne(t *testing.T, conns []net.Conn) {
	t.Helper()
	for i, conn := range conns {
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
}

func TestEcho_ServesFiveHundredConnections(t *testing.T) {
	for _, how := range []string{"poll", "epoll"} {
		t.Run(how, func(t *testing.T) {
			rt := newRuntime(t)
			c, out, addr := echoServer(t, rt, how)
			conns := dial(t, addr)
			echoOne(t, conns) // so that the server has all of them before the first one goes
			var wg sync.WaitGroup
			sent := connections
			for i, conn := range conns {
				n := 100 + 37*i // some more than one piece of the server's
				sent += n
				wg.Go(func() {
					want := bytes.Repeat([]byte{byte(i), byte(i >> 8), 'x'}, n/3+1)[:n]
					if _, err := conn.Write(want); err != nil {
						t.Errorf("connection %d: %v", i, err)
						return
					}
					if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
						t.Errorf("connection %d: %v", i, err)
					}
					got, err := io.ReadAll(conn)
					if err != nil || !bytes.Equal(got, want) {
						t.Errorf("connection %d: %d bytes came back, want the %d that were sent; %v", i, len(got), n, err)
					}
				})
			}
			wg.Wait()
			line, _ := out.ReadString('\n')
			want := fmt.Sprintf("connections %d, at once %d, bytes %d\n", connections, connections, sent)
			if code := finish(t, c); code != 0 || line != want {
				t.Errorf("code %d, %q, want %q", code, line, want)
			}
		})
	}
}

// A server that is killed while its connections are open closes them all, before it can be waited for.
func TestEcho_KilledClosesItsConnections(t *testing.T) {
	for _, how := range []string{"poll", "epoll"} {
		rt := newRuntime(t)
		c, _, addr := echoServer(t, rt, how)
		conns := dial(t, addr)
		echoOne(t, conns)
		c.Kill()
		finish(t, c)
		for i, conn := range conns {
			if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
				t.Errorf("%s: connection %d is open: %d, %v", how, i, n, err)
			}
		}
	}
}

func TestNetwork_IsNoneUnlessSaidOtherwise(t *testing.T) {
	rt := newRuntime(t)
	code, _, errs := run(t, rt, lindbridge.Program{Module: guest(t, rt, "lind-echo"), Args: []string{"lind-echo", "poll", "1"}})
	if want := "lind-echo: socket answered -13\n"; code != 1 || errs != want {
		t.Errorf("code %d, %q, want %q", code, errs, want)
	}
}
