package fdtables_test

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
)

// This file compares virtual epolls with the kernel's: the same calls on both, and the same members after each.

const (
	// kernelBase is the kernel's number for the virtual descriptor 0.
	kernelBase = 300
	kernelFDs  = 14
)

// kernelMember is a member as /proc tells of it.
type kernelMember struct {
	fd     fdtables.FD
	events uint32
	data   uint64
}

// kernelMembers are the members of the kernel's epoll for epfd, in order.
func kernelMembers(epfd fdtables.FD) ([]kernelMember, error) {
	f, err := os.Open(fmt.Sprintf("/proc/self/fdinfo/%d", kernelBase+int(epfd)))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []kernelMember
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var m kernelMember
		if !strings.HasPrefix(lines.Text(), "tfd:") {
			continue
		}
		if _, err := fmt.Sscanf(lines.Text(), "tfd: %d events: %x data: %x", &m.fd, &m.events, &m.data); err != nil {
			return nil, fmt.Errorf("%q: %w", lines.Text(), err)
		}
		m.fd -= kernelBase
		all = append(all, m)
	}
	return sortMembers(all), lines.Err()
}

func sortMembers(all []kernelMember) []kernelMember {
	slices.SortFunc(all, func(a, b kernelMember) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return all
}

// place makes fd, which it closes, the kernel's descriptor for vfd.
func place(fd int, vfd fdtables.FD) error {
	defer unix.Close(fd)
	return unix.Dup3(fd, kernelBase+int(vfd), unix.O_CLOEXEC)
}

// looksUpwards reports whether the kernel counts the epolls above one that gets a nested member, as Linux does since 6.17.
func looksUpwards(t *testing.T) bool {
	t.Helper()
	var eps [6]int
	for i := range eps {
		ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(ep)
		eps[i] = ep
	}
	for i := range 4 {
		if err := unix.EpollCtl(eps[i], unix.EPOLL_CTL_ADD, eps[i+1], &unix.EpollEvent{}); err != nil {
			t.Fatal(err)
		}
	}
	return unix.EpollCtl(eps[4], unix.EPOLL_CTL_ADD, eps[5], &unix.EpollEvent{}) == unix.ELOOP
}

// twin is a table and the kernel's descriptors that are to be the same.
type twin struct {
	ts      *fdtables.Tables
	tab     *fdtables.Table
	next    uint64 // the next underfd
	upwards bool
}

func (w *twin) fd(t *rapid.T) fdtables.FD {
	return fdtables.FD(rapid.IntRange(0, kernelFDs-1).Draw(t, "fd"))
}

// epoll is mostly a descriptor of an epoll.
func (w *twin) epoll(t *rapid.T) fdtables.FD {
	var eps []fdtables.FD
	for _, f := range w.tab.Snapshot() {
		if f.Entry.Kind == fdtables.KindEpoll {
			eps = append(eps, f.FD)
		}
	}
	if len(eps) == 0 || rapid.IntRange(0, 9).Draw(t, "any") == 0 {
		return w.fd(t)
	}
	return rapid.SampledFrom(eps).Draw(t, "epoll")
}

func (w *twin) open(t *rapid.T) {
	vfd := w.fd(t)
	w.next++
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err == nil {
		err = place(fd, vfd)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := w.tab.OpenAt(vfd, pipeKind, w.next, false, 0); err != nil {
		t.Fatal(err)
	}
}

func (w *twin) openEpoll(t *rapid.T) {
	vfd, errno := w.tab.OpenEpoll(false)
	if errno == abi.EMFILE {
		return
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = place(fd, vfd)
	}
	if err != nil || errno != 0 {
		t.Fatal(err, errno)
	}
}

func (w *twin) dup2(t *rapid.T) {
	from, to := w.fd(t), w.fd(t)
	if from == to {
		return
	}
	err := w.tab.Dup2(from, to, false)
	real := unix.Dup3(kernelBase+int(from), kernelBase+int(to), unix.O_CLOEXEC)
	if (err == nil) != (real == nil) {
		t.Fatalf("dup2(%d, %d) = %v, the kernel %v", from, to, err, real)
	}
}

func (w *twin) close(t *rapid.T) {
	fd := w.fd(t)
	err, real := w.tab.Close(fd), unix.Close(kernelBase+int(fd))
	if (err == nil) != (real == nil) {
		t.Fatalf("close(%d) = %v, the kernel %v", fd, err, real)
	}
}

func (w *twin) ctl(t *rapid.T) {
	epfd, fd := w.epoll(t), w.fd(t)
	if rapid.Bool().Draw(t, "nested") {
		fd = w.epoll(t)
	}
	op := rapid.SampledFrom([]int32{1, 1, 1, 1, 2, 3, 0, 4}).Draw(t, "op")
	ev := fdtables.EpollEvent{
		Events: rapid.SampledFrom([]uint32{
			0, pollIn, pollOut | 1<<31, 1 << 30, fdtables.EpollExclusive, fdtables.EpollExclusive | pollIn | 1<<30,
		}).Draw(t, "events"),
		Data: rapid.Uint64().Draw(t, "data"),
	}
	event := &unix.EpollEvent{Events: ev.Events, Fd: int32(ev.Data), Pad: int32(ev.Data >> 32)}
	errno := w.tab.EpollCtl(epfd, op, fd, ev)
	real := unix.EpollCtl(kernelBase+int(epfd), int(op), kernelBase+int(fd), event)
	if !w.upwards && errno == abi.ELOOP && real == nil {
		real = unix.EpollCtl(kernelBase+int(epfd), unix.EPOLL_CTL_DEL, kernelBase+int(fd), nil)
		if real != nil {
			t.Fatal(real)
		}
		return
	}
	if (errno == 0) != (real == nil) || errno != 0 && real.Error() != unix.Errno(errno).Error() {
		t.Fatalf("epoll_ctl(%d, %d, %d, %+v) = %v, the kernel %v", epfd, op, fd, ev, errno, real)
	}
}

// check compares the members of all epolls.
func (w *twin) check(t *rapid.T) {
	for _, f := range w.tab.Snapshot() {
		if f.Entry.Kind != fdtables.KindEpoll {
			continue
		}
		want, err := kernelMembers(f.FD)
		if err != nil {
			t.Fatal(err)
		}
		all, errno := w.tab.EpollMembers(f.FD, nil)
		if errno != 0 {
			t.Fatal(errno)
		}
		var got []kernelMember
		for _, m := range all {
			events := m.Event.Events | pollErr | pollHup // which the kernel adds
			got = append(got, kernelMember{m.FD, events, m.Event.Data})
		}
		if !slices.Equal(sortMembers(got), want) {
			t.Fatalf("members of %d:\n%v, the kernel has\n%v", f.FD, got, want)
		}
	}
}

func TestEpoll_AgreesWithTheKernel(t *testing.T) {
	upwards := looksUpwards(t)
	rapid.Check(t, func(t *rapid.T) {
		ts := fdtables.New(fdtables.Config{})
		tab, err := ts.Init(2)
		if err != nil {
			t.Fatal(err)
		}
		tab.SetLimit(kernelFDs)
		defer func() {
			for fd := range kernelFDs {
				_ = unix.Close(kernelBase + fd) // EBADF for those that are closed
			}
		}()
		w := &twin{ts: ts, tab: tab, upwards: upwards}
		for range 3 {
			w.openEpoll(t)
		}
		t.Repeat(map[string]func(*rapid.T){
			"open": w.open, "openEpoll": w.openEpoll, "dup2": w.dup2, "close": w.close,
			"ctl": w.ctl, "ctl again": w.ctl, "and again": w.ctl, "": w.check,
		})
		if _, err := ts.Remove(2); err != nil || ts.Open() != 0 {
			t.Fatalf("%v, %d underfds are open at the end", err, ts.Open())
		}
	})
}
