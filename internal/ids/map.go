package ids

import (
	"iter"
	"sync"
	"sync/atomic"
)

const (
	pageBits = 10
	pageSize = 1 << pageBits
	// lowIDs is one more than the largest id that the pages hold.
	lowIDs = pageSize * pageSize
)

type page[T any] [pageSize]atomic.Pointer[T]

// Map maps ids to values of type *T. The zero Map is empty. A Map must not be copied.
//
// All methods are safe for concurrent use. Ids below 2^20 are found by two loads, wait-free; memory grows by one page
// of 8 KiB for each 1024 of them, and a page is never given back. Larger ids are as good but slower: they are meant to
// be rare.
type Map[T any] struct {
	pages [pageSize]atomic.Pointer[page[T]] // each is set once
	high  sync.Map                          // uint64 -> *T, for ids from lowIDs on
}

// Load is the value of id, or nil. It takes no lock and, below 2^20, is wait-free and does not allocate.
func (m *Map[T]) Load(id uint64) *T {
	if id < lowIDs {
		return m.LoadLow(id)
	}
	if v, ok := m.high.Load(id); ok {
		return v.(*T)
	}
	return nil
}

// LoadLow is Load for ids below 2^20, small enough to be inlined. Others have no value to it.
func (m *Map[T]) LoadLow(id uint64) *T {
	if i := id >> pageBits; i < pageSize {
		if p := m.pages[i].Load(); p != nil {
			return p[id%pageSize].Load()
		}
	}
	return nil
}

// Insert makes v, which is not nil, the value of id. It answers false, and changes nothing, if id has one.
func (m *Map[T]) Insert(id uint64, v *T) bool {
	if id < lowIDs {
		return m.page(id)[id%pageSize].CompareAndSwap(nil, v)
	}
	_, present := m.high.LoadOrStore(id, v)
	return !present
}

// Delete takes id out if its value is v, and answers whether it was.
func (m *Map[T]) Delete(id uint64, v *T) bool {
	if id < lowIDs {
		p := m.pages[id>>pageBits].Load()
		return p != nil && v != nil && p[id%pageSize].CompareAndSwap(v, nil)
	}
	return m.high.CompareAndDelete(id, v)
}

// All yields each id that has a value, with the value, ids below 2^20 first and in ascending order. An id that is
// inserted or deleted meanwhile may or may not be among them.
func (m *Map[T]) All() iter.Seq2[uint64, *T] {
	return func(yield func(uint64, *T) bool) {
		for i := range m.pages {
			p := m.pages[i].Load()
			if p == nil {
				continue
			}
			for j := range p {
				if v := p[j].Load(); v != nil && !yield(uint64(i)<<pageBits|uint64(j), v) {
					return
				}
			}
		}
		m.high.Range(func(id, v any) bool { return yield(id.(uint64), v.(*T)) })
	}
}

func (m *Map[T]) page(id uint64) *page[T] {
	slot := &m.pages[id>>pageBits]
	if p := slot.Load(); p != nil {
		return p
	}
	slot.CompareAndSwap(nil, new(page[T]))
	return slot.Load()
}
