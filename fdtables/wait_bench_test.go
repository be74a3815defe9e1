package fdtables_test

import (
	"fmt"
	"testing"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
)

// waitTable is a table of n descriptors of two kinds from fd 1 on, members of the epoll at 0.
func waitTable(b *testing.B, n int) *fdtables.Table {
	b.Helper()
	t := newTable(b, fdtables.New(fdtables.Config{}), 2)
	t.SetLimit(fdtables.MaxLimit)
	openEpoll(b, t, 0)
	for i := range n {
		fd, errno := t.Open(fdtables.Kind(i%2), uint64(i), false, 0)
		if errno != 0 {
			b.Fatal(errno)
		}
		ctl(b, t, 0, fdtables.EpollAdd, fd, 0)
	}
	return t
}

var waitSizes = []int{1, 8, 500}

func BenchmarkPoll(b *testing.B) {
	for _, n := range waitSizes {
		b.Run(fmt.Sprintf("fds=%d", n), func(b *testing.B) {
			t, fds := waitTable(b, n), make([]fdtables.PollFD, n)
			for i := range fds {
				fds[i] = fdtables.PollFD{FD: fdtables.FD(i + 1), Events: pollIn}
			}
			var p fdtables.Poll
			b.ReportAllocs()
			for b.Loop() {
				p.Translate(t, fds)
				p.Answer(fds)
				p.Release()
			}
		})
	}
}

func BenchmarkSelect(b *testing.B) {
	for _, n := range waitSizes {
		b.Run(fmt.Sprintf("fds=%d", n), func(b *testing.B) {
			t, all, set := waitTable(b, n), make(fdtables.FDSet, 16), make(fdtables.FDSet, 16)
			for i := range n {
				all.Add(uint64(i + 1))
			}
			var s fdtables.Select
			b.ReportAllocs()
			for b.Loop() {
				copy(set, all)
				if errno := s.Translate(t, n+1, set, nil, nil, 0, 1); errno != 0 {
					b.Fatal(errno)
				}
				s.Answer(set, nil, nil)
				s.Release()
			}
		})
	}
}

func BenchmarkEpoll(b *testing.B) {
	for _, n := range waitSizes {
		t, buf := waitTable(b, n), make([]fdtables.EpollMember, 0, n)
		for name, call := range map[string]func() abi.Errno{
			"members": func() abi.Errno { _, errno := t.EpollMembers(0, buf); return errno },
			"change":  func() abi.Errno { return t.EpollCtl(0, fdtables.EpollMod, 1, fdtables.EpollEvent{}) },
			"take out and add": func() abi.Errno {
				_ = t.EpollCtl(0, fdtables.EpollDel, 1, fdtables.EpollEvent{})
				return t.EpollCtl(0, fdtables.EpollAdd, 1, fdtables.EpollEvent{})
			},
		} {
			b.Run(fmt.Sprintf("%s/members=%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if errno := call(); errno != 0 {
						b.Fatal(errno)
					}
				}
			})
		}
	}
}
