package wasip1

// argsGet is args_get(argv, argv_buf).
func argsGet(c call) Errno { return c.stringsGet(&c.env.args) }

// argsSizesGet is args_sizes_get() -> (count, bytes).
func argsSizesGet(c call) Errno { return c.stringsSizesGet(&c.env.args) }

// environGet is environ_get(environ, environ_buf).
func environGet(c call) Errno { return c.stringsGet(&c.env.environ) }

// environSizesGet is environ_sizes_get() -> (count, bytes).
func environSizesGet(c call) Errno { return c.stringsSizesGet(&c.env.environ) }

// stringsGet writes the table's strings to its second argument and their addresses to its first.
func (c call) stringsGet(table *stringTable) Errno {
	pointers, data := c.ptr(0), c.ptr(1)
	if !c.inMemory(pointers, 4*uint64(len(table.starts))) || !c.inMemory(data, uint64(len(table.data))) {
		return ErrnoFault
	}
	for i, start := range table.starts {
		if errno := c.writeU32(pointers+4*uint64(i), uint32(data)+start); errno != 0 {
			return errno
		}
	}
	return c.writeBytes(data, table.data)
}

// stringsSizesGet writes how many strings the table has, and how many bytes with their NULs.
func (c call) stringsSizesGet(table *stringTable) Errno {
	count, size := c.ptr(0), c.ptr(1)
	if !c.inMemory(count, 4) || !c.inMemory(size, 4) {
		return ErrnoFault
	}
	if errno := c.writeU32(count, uint32(len(table.starts))); errno != 0 {
		return errno
	}
	return c.writeU32(size, uint32(len(table.data)))
}
