package cage

// link is a member's place in the list that it is in.
type link[T any] struct{ next, prev *T }

// member is what a list is made of: a type that keeps its own link.
type member[T any] interface {
	*T
	place() *link[T]
}

// list is a queue of members that are linked to a ring, so that it is one word, allocates nothing, and any member
// leaves it in constant time. The zero list is empty. A member is in one list at a time, or in none.
type list[T any, M member[T]] struct {
	head *T // the first, or nil; the one before it is the last
}

func (l *list[T, M]) empty() bool { return l.head == nil }

// pushBack makes m, which is in no list, the last.
func (l *list[T, M]) pushBack(m *T) {
	k := M(m).place()
	if l.head == nil {
		k.next, k.prev = m, m
		l.head = m
		return
	}
	head := M(l.head).place()
	k.next, k.prev = l.head, head.prev
	M(head.prev).place().next = m
	head.prev = m
}

// pushFront makes m, which is in no list, the first.
func (l *list[T, M]) pushFront(m *T) {
	l.pushBack(m)
	l.head = m // the place before the first and that after the last are the same
}

// remove takes m out, which is in this list.
func (l *list[T, M]) remove(m *T) {
	k := M(m).place()
	if k.next == m {
		l.head = nil
	} else {
		M(k.prev).place().next = k.next
		M(k.next).place().prev = k.prev
		if l.head == m {
			l.head = k.next
		}
	}
	*k = link[T]{}
}

// popFront takes the first out and answers it, or nil if there is none.
func (l *list[T, M]) popFront() *T {
	m := l.head
	if m != nil {
		l.remove(m)
	}
	return m
}
