package bridge

import (
	"sync"
	"sync/atomic"
)

// A slab has room for 1<<22 values, which is the most threads that Linux allows in a whole system (PID_MAX_LIMIT).
const (
	slabChunkBits = 10
	slabChunkLen  = 1 << slabChunkBits
	slabChunks    = 1 << 12
	slabLen       = slabChunks * slabChunkLen
)

// slab gives values a token: a number that C may keep in place of a pointer. A token holds the index of a slot and the
// slot's generation, so that a token which was freed finds nothing, even when the slot is in use again. No token is 0.
//
// Looking a token up takes no lock. The zero value is an empty slab.
type slab[T any] struct {
	chunks [slabChunks]atomic.Pointer[slabChunk[T]] // atomic; set once each

	mu   sync.Mutex
	free []uint32 // indices of slots without a value; guarded by mu
	next uint32   // slots from here on were never used; guarded by mu
}

type slabChunk[T any] struct {
	slots       [slabChunkLen]atomic.Pointer[slabEntry[T]] // atomic
	generations [slabChunkLen]uint32                       // of the slot's last token; guarded by slab.mu
}

// slabEntry is a value in a slab.
type slabEntry[T any] struct {
	token uint64 // immutable
	value T      // owned by whoever put it
}

// put gives value a token. It answers 0 when the slab is full.
func (s *slab[T]) put(value T) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var index uint32
	switch n := len(s.free); {
	case n > 0:
		index = s.free[n-1]
		s.free = s.free[:n-1]
	case s.next < slabLen:
		index = s.next
		s.next++
	default:
		return 0
	}
	place := &s.chunks[index>>slabChunkBits]
	chunk := place.Load()
	if chunk == nil {
		chunk = new(slabChunk[T])
		place.Store(chunk)
	}
	i := index % slabChunkLen
	chunk.generations[i]++
	if chunk.generations[i] == 0 {
		chunk.generations[i] = 1 // else the first slot's token would be 0
	}
	token := uint64(chunk.generations[i])<<32 | uint64(index)
	chunk.slots[i].Store(&slabEntry[T]{token: token, value: value})
	return token
}

// at is the entry of token, or nil if token was freed or never given.
func (s *slab[T]) at(token uint64) *slabEntry[T] {
	index := uint32(token)
	if index >= slabLen {
		return nil
	}
	chunk := s.chunks[index>>slabChunkBits].Load()
	if chunk == nil {
		return nil
	}
	entry := chunk.slots[index%slabChunkLen].Load()
	if entry == nil || entry.token != token {
		return nil
	}
	return entry
}

// drop frees token and reports whether it had a value: of several who drop one token, one does.
func (s *slab[T]) drop(token uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at(token) == nil {
		return false
	}
	index := uint32(token)
	s.chunks[index>>slabChunkBits].Load().slots[index%slabChunkLen].Store(nil)
	s.free = append(s.free, index)
	return true
}

// live is how many tokens have a value.
func (s *slab[T]) live() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int(s.next) - len(s.free)
}
