/*
 * The exit protocol as a model for spin: who may run, who is counted, who is woken, and when cleanup may begin.
 *
 * README.md beside this file says what is modelled and what is not. scripts/model.sh runs every configuration below, and
 * every mutation. By hand:
 *
 *	spin -DNT=2 -DOPS=... -a exit.pml && gcc -O2 -DSAFETY -DCOLLAPSE -o pan pan.c && ./pan -E -m1000000
 *
 * Parameters (-D). A configuration is a choice of them; scripts/model.sh has the list.
 *
 *	NT         guest threads of all cages together, 1 to 5. A thread is an OS thread too
 *	NC         cages, 1 or 2
 *	NW         workers of cage 1, which is a grate then; 0: it is a plain program
 *	N0 .. N4   how many operations the guest code of each thread makes, at the most, before it only spins
 *	B          the first thread of cage 1. Threads below are cage 0's
 *	SPAWNED    a mask of threads that other threads start; the others are started by the host
 *	NEXT       the thread of a new image, where there is exec
 *	OPS, OPS1  what threads of cage 0 and of cage 1 may do: a sum of the constants OP_* below
 *	WOPS       what a worker may do: a sum of the constants W_* below
 *	KILLS      a mask of cages that the host kills for certain, at any moment
 *	KILLERS    how many more such kills there are of cage 0; they meet and one of them wins
 *	STEP_KILLS a mask of cages a step of which kills the other cage
 *	REUSE      the id of cage 0 is given to a new cage as soon as it may be, and an old handle is used once more
 *	MUT_*      a mutation, to be rejected: see the list in scripts/model.sh
 *
 * Time has no length here. A wait blocks until its event; code that spins blocks until its epoch deadline has passed,
 * which is all that anybody sees of it. So a thread that nothing reaches blocks for ever, and the Judge, which moves when
 * nobody else can, finds it there: "it ends in bounded time" is an assertion like the others.
 */

#ifndef NC
#define NC 1
#endif
#ifndef NW
#define NW 0
#endif
#ifndef B
#define B NT
#endif
#ifndef N0
#define N0 1
#endif
#ifndef N1
#define N1 1
#endif
#ifndef N2
#define N2 1
#endif
#ifndef N3
#define N3 1
#endif
#ifndef N4
#define N4 1
#endif
#ifndef SPAWNED
#define SPAWNED 0
#endif
#ifndef NEXT
#define NEXT 255
#endif
#ifndef OPS1
#define OPS1 0
#endif
#ifndef WOPS
#define WOPS 0
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef KILLERS
#define KILLERS 0
#endif
#ifndef STEP_KILLS
#define STEP_KILLS 0
#endif

/* What guest code does. OP_SPIN is always there: it is what is left when no operation is. */
#define OP_WAIT   1   /* memory.atomic.wait: sleeps in the queue, claimable */
#define OP_POLL   2   /* a host call that waits in the shim's poller, claimable */
#define OP_HOST   4   /* a host call that waits in Go and polls the cancel token: not claimable */
#define OP_STUCK  8   /* a host call that returns only when the Judge lets it */
#define OP_SPAWN  16  /* starts a thread of SPAWNED */
#define OP_EXIT   32  /* exit_group */
#define OP_RETURN 64  /* ends this thread alone: exit, or return from its entry */
#define OP_KILL   128 /* kills the other cage */
#define OP_CALL   256 /* makes a call that the grate serves */
#define OP_EXEC   512 /* exec */

/* What guest code of a worker does, each at most once a call, and then it returns. */
#define W_SPIN 1  /* until somebody stops it */
#define W_WAIT 2  /* atomic wait that nobody notifies: claimable by the grate's stop */
#define W_POLL 4  /* waits in the poller: the same, and the caller's stop interrupts it */
#define W_EXIT 8  /* the grate ends itself while it serves */
#define W_KILL 16 /* the grate kills its caller */
#define W_TRAP 32 /* the grate ends by a trap */

#define NS (NT + NW)   /* slots: one for each thread, then one for each worker */
#define ND (NC + 1)    /* domains: one for each cage, and one for the image after an exec */
#define SPARE NC
#define GRATE 1
#define ALL ((1 << NS) - 1)
#define BIT(k) (1 << (k))
#define HAS(mask, k) (((mask) >> (k)) & 1)
#define ADD(mask, k) mask = mask | BIT(k)
#define DEL(mask, k) mask = mask & ~BIT(k)
#define HOME(t) ((t) == NEXT -> SPARE : ((t) >= B -> 1 : 0))
#define CAGE(d) ((d) == SPARE -> 0 : (d))

/* Who asked for an exit. */
#define BY_GROUP  1
#define BY_LAST   2 /* the last thread has ended */
#define BY_HOST   3
#define BY_CAGE   4 /* another cage, or a step of its exit */
#define BY_TRAP   5
#define BY_RIVAL  6

/* Why a sleeper woke. */
#define STOPPED 1
#define NOTIFIED 2
#define HANDED 3 /* and more: with the worker HANDED + w */

/* In which queue a thread sleeps. */
#define WAITQ 1
#define GRATEQ 2

/* The names of the invariants, always 0: they make the checker's message name the invariant. */
hidden byte I1, I2, I3, I4, I5, I6, I7, I8, I9, I10;

/* The phases, and the moves between them. exitcoord/model_test.go keeps both equal to exitcoord/phase.go. */
#define Running 0
#define Stopping 1
#define Quiescent 2
#define Cleaning 3
#define Zombie 4
#define Reaped 5

#define EDGE(f, t, from, to) ((f) == from && (t) == to)
#define ALLOWED(f, t) ( \
	EDGE(f, t, Running, Stopping) || \
	EDGE(f, t, Stopping, Quiescent) || \
	EDGE(f, t, Quiescent, Cleaning) || \
	EDGE(f, t, Quiescent, Running) || \
	EDGE(f, t, Cleaning, Zombie) || \
	EDGE(f, t, Zombie, Reaped) )

/* --- Cages: what exitcoord knows. ------------------------------------------------------------------------------- */
byte phase[NC];
byte cause[NC];    /* BY_*; set by one compare-and-swap */
byte first[NC];    /* ghost: the cause that came first */
bit  mu[NC];       /* Exit.mu, where it is held for more than one step */
bit  execs[NC];    /* BeginExec stopped the cage, and nothing has decided what follows */
bit  owed[NC];     /* the winner of the cause has yet to call Stop */
byte dom[NC];      /* the domain of its image */
byte alive[NC];    /* threads that have not ended, as Go counts them */
byte steps[NC];    /* how many steps have run, all told */
bit  stuck[NC];    /* it was reported as Stuck */
bit  told[NC];     /* somebody's Begin has returned */

/* --- Domains: what the shim knows. ------------------------------------------------------------------------------ */
bit  closed[ND];   /* the gate's word: closed, */
byte inside[ND];   /* and how many are inside */
byte finishes[ND]; /* how many were told that they left last */
bit  stopping[ND]; /* somebody has closed the gate and is in Domain::stop */
bit  stopped[ND];  /* that call is over */
bit  finished[ND]; /* the call of whoever left last is over */
bit  expired[ND];  /* its grace is over */
byte snap[ND];     /* the slots that were live when the gate was closed */
byte own[ND];      /* the slots that belong to it; constant */
byte cancel, wake; /* masks of domains: the tokens that have been fired */
byte grace, watch; /* masks of domains: what the sweeper is to do */
byte wakes;        /* a mask of domains: whose sleepers the waker is to wake */

/* --- Slots: masks of bits. -------------------------------------------------------------------------------------- */
byte live;         /* on their domain's list */
byte parked;       /* marked as asleep */
byte claimed;      /* counted out: never runs guest code again */
byte asleep;       /* claimed in their sleep and not yet woken */
byte passed;       /* the epoch has passed the store's deadline. Moving the epoch sets all of them */
byte rearmed;      /* may have missed an epoch */
byte pubw, pubg;   /* the published wait: an address in guest memory; the grate */
byte atgrate;      /* inside a grate, or on its way there */
byte inguest;      /* in guest code, as those who stop the domain see it */
byte runs;         /* ghost: guest code, or a host call of it, runs */
byte held;         /* ghost, of threads: in a host call that returns only when the Judge lets it */

/* --- OS threads. ------------------------------------------------------------------------------------------------ */
byte inq[NT];      /* the queue in which it sleeps; 0: none */
byte tok[NT];      /* why it woke */
byte interrupt;    /* a mask: its interrupt descriptor is readable */
byte go;           /* a mask: it was started. The gate has counted it in */
byte waits4;       /* ghost, a mask: at the grate, waiting for a worker or inside one */

/* --- The grate. ------------------------------------------------------------------------------------------------- */
#if NW > 0
byte os[NW];       /* the thread that the worker is on, or was last */
byte idle;         /* a mask of workers */
byte waiting;      /* callers that wait for one, or are about to */
bit  torn;         /* a worker was trapped and discarded */
#endif
bit  released;     /* stuck host calls return */
bit  shared;       /* MUT_SHARED: a lock that all exits share */
byte idof;         /* REUSE: the cage that has the id */

/* ================================================================================================================
 * The shim
 */

/* Wakes those of the published sleepers in the mask that sleep in the queue. Part of a d_step. */
inline unpark(_uq, _umask) {
	k = 0;
	do
	:: k < NS ->
		if
		:: HAS(_umask, k) ->
#if NW > 0
			o = (k < NT -> k : os[k - NT]);
#else
			o = k;
#endif
			if
			:: inq[o] == _uq -> inq[o] = 0; tok[o] = STOPPED
			:: else
			fi
		:: else
		fi;
		k++
	:: else -> break
	od;
	k = 0;
	o = 0
}

/* OsThread::wake for the threads in the mask of slots. Part of a d_step. */
inline awaken(_wmask) {
	k = 0;
	do
	:: k < NS ->
		if
		:: HAS(_wmask, k) ->
#if NW > 0
			o = (k < NT -> k : os[k - NT]);
#else
			o = k;
#endif
			ADD(interrupt, o)
		:: else
		fi;
		k++
	:: else -> break
	od;
	k = 0;
	o = 0
}

/* Domain::stop, on the caller's thread: the process Domain does the work, and the caller waits for that call to return. The
 * gate is closed and the list read under the list's lock; the closer counts itself in. */
inline stop(_sd) {
#ifdef MUT_UNPARK_FIRST
	d_step { unpark(WAITQ, pubw & own[_sd]); unpark(GRATEQ, pubg & own[_sd]) };
#endif
	atomic {
		if
		:: !closed[_sd] ->
			closed[_sd] = 1;
			inside[_sd]++;
			snap[_sd] = live & own[_sd];
			stopping[_sd] = 1;
			mine = 1
		:: else
		fi
	};
	if
	:: mine -> stopped[_sd]; mine = 0
	:: else
	fi
}

/* Gate::leave, and what follows for whoever left last. */
inline leave(_ld) {
#ifdef MUT_LEAVE_SPLIT
	inside[_ld]--;
	d_step {
		last = (closed[_ld] && inside[_ld] == 0);
#else
	d_step {
		assert(inside[_ld] > 0);
		inside[_ld]--;
		last = (closed[_ld] && inside[_ld] == 0);
#endif
		if
		:: last -> finishes[_ld]++; assert(I2 || finishes[_ld] == 1)
		:: else
		fi
	};
	if
	:: last -> finished[_ld]; last = 0
	:: else
	fi
}

/* Domain::run: the gate, and the list, under the list's lock. Who is not let in never was. */
inline startThread(_rt, _rd) {
	d_step {
		if
#ifdef MUT_SPAWN_UNGATED
		:: true ->
#else
		:: !closed[_rd] ->
#endif
			assert(I3 || !closed[_rd]);
			inside[_rd]++;
			ADD(live, _rt);
			ADD(inguest, _rt); /* "starting" counts as in the guest */
			ADD(go, _rt)
		:: else -> alive[CAGE(_rd)]--
		fi
	}
}

#if NW > 0
/* Grate::put_back: idle again, and then handed to whoever waits. */
inline putBack(_pw) {
	ADD(idle, _pw);
	if
#ifndef MUT_NO_HAND_OVER
	:: waiting != 0 ->
		/* Takes one, and under the queue's lock either hands it over or puts it back. */
		d_step {
			k = (idle & 1 -> 0 : (idle & 2 -> 1 : 9));
			if
			:: k < 9 ->
				DEL(idle, k);
				o = 0;
				do
				:: o < NT && inq[o] != GRATEQ -> o++
				:: else -> break
				od;
				if
				:: o < NT -> inq[o] = 0; tok[o] = HANDED + k
				:: else -> ADD(idle, k)
				fi
			:: else
			fi;
			k = 0;
			o = 0
		}
#endif
	:: else
	fi
}
#endif

/* A notify, a timeout, or what is waited for: comes or does not. It never comes for the threads of a mask, so that the
 * checker sees sleeps that only a stop ends; for the others it may come at any moment. */
#ifndef NOTIFIES
#define NOTIFIES 0
#endif
#define may_notify(t) (HAS(NOTIFIES, t) && !released)

/* ================================================================================================================
 * exitcoord
 */

/* The one function that moves. */
inline advance(_ac, _afrom, _ato) {
	assert(phase[_ac] == _afrom && ALLOWED(_afrom, _ato));
	phase[_ac] = _ato
}

/*
 * Exit.Begin. `won`, `want` and `at` are the caller's. Stop is called only by the winner.
 * The caller returns from it with the cage Stopping or further, and it waits for nothing.
 */
inline begin(_bc, _bwhy) {
	d_step {
		won = (cause[_bc] == 0);
#ifdef MUT_OVERWRITE
		cause[_bc] = _bwhy;
#endif
		if
		:: won -> cause[_bc] = _bwhy; first[_bc] = _bwhy
		:: else
		fi
	};
	/* A cage that is Quiescent may be about to resume, having looked for a cause just before there was one: so who comes
	 * late looks under mu then too. */
	if
#ifdef MUT_NO_HELP
	:: !won -> skip
#elif defined(MUT_RESUME_RACE)
	:: !won && phase[_bc] != Running -> skip
#else
	:: !won && phase[_bc] != Running && phase[_bc] != Quiescent -> skip
#endif
	:: else ->
		atomic {
			!mu[_bc];
			if
			:: phase[_bc] == Running -> advance(_bc, Running, Stopping); owed[_bc] = 1
			:: else
			fi;
			want = won && owed[_bc];
			at = dom[_bc]
		};
		if
		:: want -> stop(at); want = 0
		:: else
		fi;
		at = 0
	fi;
	won = 0;
	/* From the return of any Begin on, the cage runs no more, and not again. */
	d_step { assert(I3 || phase[_bc] != Running); told[_bc] = 1 };
#ifdef MUT_BEGIN_WAITS
	phase[_bc] >= Zombie;
#endif
}

/* Exit.BeginExec. */
inline beginExec(_xc) {
	atomic {
		!mu[_xc];
		if
		:: cause[_xc] == 0 && phase[_xc] == Running ->
			execs[_xc] = 1;
			advance(_xc, Running, Stopping);
			want = 1;
			at = dom[_xc]
		:: else
		fi
	};
	if
	:: want -> stop(at); want = 0; at = 0
	:: else
	fi
}

/* ================================================================================================================
 * A domain
 */

/* Domain::may_have_missed */
#define MISSED(d) (closed[d] && (live & own[d] & rearmed & (inguest | (expired[d] -> atgrate : 0))))

/* One domain, and with it one exit. What is here runs on the threads of those who stop and of whoever left last: they
 * wait until it is over, as for a call. */
proctype Domain(byte d) {
	byte m, k, o, c;
	bit last, has, won, want, mine;
	byte at;

end_none:
	stopping[d];
	c = CAGE(d);
#ifdef MUT_SHARED
	atomic { !shared; shared = 1 };
#endif
	/* Interrupt, once. Guest code first. */
#ifndef MUT_NO_EPOCH
	passed = ALL;
#endif
#ifndef MUT_NO_CANCEL
	ADD(cancel, d);
#endif
	/* Those that sleep are counted out one by one. Nobody of them is the last: the one who stops is inside as well. */
	do
	:: k < NS ->
		d_step {
			if
#ifdef MUT_CLAIM_ALL
			:: HAS(parked & live, k) ->
#else
			:: HAS(parked & live & own[d], k) ->
#endif
				assert(I10 || HAS(own[d], k)); /* the work is that of its own threads */
				DEL(parked, k);
				ADD(claimed, k);
				ADD(asleep, k);
				DEL(live, k);
				DEL(runs, k);
				inside[d]--;
				assert(inside[d] > 0)
			:: else
			fi;
			k++
		}
	:: else -> k = 0; break
	od;
	/* The others are on their way into a queue or out of it. */
	m = pubw & snap[d] & ~claimed;
	d_step { unpark(WAITQ, m); m = 0 };
	m = pubg & snap[d] & ~claimed;
	d_step { unpark(GRATEQ, m); m = 0 };
#if NW > 0
	if
	:: d == GRATE ->
		/* All that wait for a worker. */
#ifndef MUT_NO_UNPARK_ALL
		d_step { unpark(GRATEQ, BIT(NT) - 1) };
#else
		skip
#endif
	:: else
	fi;
	/* Threads that are inside grates: interrupted, and then given some time. */
	m = atgrate & snap[d] & ~claimed;
	if
	:: m != 0 ->
		d_step { awaken(m); m = 0 };
#ifndef MUT_NO_GRACE
		ADD(grace, d)
#endif
	:: else
	fi;
#ifndef MUT_CLAIMED_WAIT
	/* A worker that was claimed is on the thread of a caller, who has to hear of it even if another thread of the grate
	 * never leaves. */
	if
	:: d == GRATE && (asleep & own[d]) -> ADD(wakes, d)
	:: else
	fi;
#endif
#endif
	if
	:: MISSED(d) -> ADD(watch, d)
	:: else
	fi;
#ifdef MUT_EARLY_CLEANUP
	/* Takes the interrupted for stopped. */
	if
	:: finishes[d] == 0 -> finishes[d] = 1
	:: else
	fi;
#endif
	d_step {
		inside[d]--;
		if
		:: inside[d] == 0 && finishes[d] == 0 -> finishes[d]++
		:: else -> stopped[d] = 1
		fi
	};

	/* Domain::finish, by whoever left last. */
end_stuck:
	finishes[d] > 0;
#ifdef MUT_SHARED
	shared = 0;
#endif
#ifndef MUT_NEVER_WAKE
	if
	:: asleep & own[d] -> ADD(wakes, d)
	:: else
	fi;
#endif
	/* Exit.Quiescent. It looks for a cause once. */
	atomic { !mu[c]; mu[c] = 1; has = (cause[c] != 0) };
	d_step {
		assert(I1 || (runs & own[d]) == 0);
		assert(I1 || inside[d] == 0);
		advance(c, Stopping, Quiescent);
		has = execs[c] && !has;
		if
		:: !has -> execs[c] = 0
		:: else
		fi;
		mu[c] = 0
	};
	if
	:: has ->
		/* An exec: Quiescent returns. The owner has a new image by now, in a domain of its own, and resumes. */
		d_step { finished[d] = 1; stopped[d] = 1; has = 0 };
		atomic { !mu[c]; mu[c] = 1; has = (cause[c] != 0) };
		if
#ifdef MUT_RESUME_ANYWAY
		:: true ->
#else
		:: !has ->
#endif
			d_step {
				assert(I5 || !told[c]);
				execs[c] = 0;
				advance(c, Quiescent, Running);
				dom[c] = SPARE;
				alive[c] = 1;
				mu[c] = 0;
				has = 0
			};
			/* Only now may the image's first thread start: and it may find the gate closed again. */
			startThread(NEXT, SPARE);
			goto over
#ifndef MUT_RESUME_ANYWAY
		:: else -> d_step { execs[c] = 0; mu[c] = 0; has = 0 }
#endif
		fi
	:: else
	fi;
	/* Exit.cleanUp */
#ifdef MUT_SKIP_CLEANING
	skip;
#else
	advance(c, Quiescent, Cleaning);
#endif
	do
	:: m < 3 ->
#ifdef MUT_ZOMBIE_EARLY
		if
		:: m == 2 -> advance(c, Cleaning, Zombie)
		:: else
		fi;
#endif
		/* A step. What becomes of it, or that it timed out, changes nothing for the next. */
		d_step {
			assert(I1 || phase[c] >= Cleaning);
			assert(I2 || steps[c] == m);
			assert(I1 || (runs & own[d]) == 0);
			steps[c]++
		};
		if
		:: m == 0 && HAS(STEP_KILLS, c) -> begin(1 - c, BY_CAGE)
		:: else
		fi;
		m++
#ifdef MUT_FAILED_STEP_STOPS
	:: m == 1 -> break
#endif
	:: else -> break
	od;
	m = 0;
#ifndef MUT_ZOMBIE_EARLY
	advance(c, Cleaning, Zombie);
#endif
	d_step { finished[d] = 1; stopped[d] = 1 };
over:
	atomic { c = 0; has = 0 }
}

/* The module `wake`. */
proctype Waker() {
	byte k, o, d, m;

end_idle:
	do
	:: wakes != 0 ->
		d_step {
			d = (wakes & 1 -> 0 : (wakes & 2 -> 1 : 2));
			DEL(wakes, d);
			m = asleep & own[d];
			asleep = asleep & ~m;
			k = 0
		};
		d_step { unpark(WAITQ, m & pubw); unpark(GRATEQ, m & pubg) };
		d_step { ADD(wake, d); m = 0; d = 0 }
	od
}

/* The module `sweep`. */
proctype Sweeper() {
	byte k, o, d, m;

end_idle:
	do
	:: false
#if NW > 0
	:: grace != 0 ->
		/* Domain::expire, some time later */
		d_step { d = (grace & 1 -> 0 : (grace & 2 -> 1 : 2)); DEL(grace, d) };
		expired[d] = 1;
		m = live & own[d] & atgrate;
		d_step { awaken(m) };
#ifndef MUT_EXPIRE_NO_EPOCH
		passed = ALL;
#endif
		d_step { unpark(WAITQ, m & pubw); unpark(GRATEQ, m & pubg); m = 0 };
		d_step { ADD(watch, d); d = 0 }
#endif
#ifndef MUT_NO_SWEEP
	:: (watch & 1) && MISSED(0) && (passed != ALL) -> passed = ALL
#if NC > 1
	:: (watch & 2) && MISSED(1) && (passed != ALL) -> passed = ALL
#endif
	:: (watch & BIT(SPARE)) && MISSED(SPARE) && (passed != ALL) -> passed = ALL
#endif
	od
}

/* ================================================================================================================
 * Guest threads
 */

#define OPS_OF(d) ((d) == 1 -> OPS1 : OPS)
#define MAY(op) (n > 0 && (OPS_OF(d) & (op)))
#define RUNS assert(I1 || (phase[c] <= Stopping && dom[c] == d && HAS(runs, t)))

/* Slot::unpark: `is` says whether it was claimed in its sleep. */
inline unmark(_ms, _mis) {
	d_step { _mis = HAS(claimed, _ms); DEL(parked, _ms) }
}

/* Domain::depart: the thread, or worker, with this slot finds that its domain stops, and counts itself out. */
inline depart(_es, _ed) {
	d_step {
		want = !HAS(claimed, _es);
		if
		:: want -> ADD(claimed, _es); DEL(runs, _es)
		:: else
		fi
	};
	if
	:: want ->
		DEL(live, _es);
		want = 0;
		leave(_ed)
	:: else
	fi
}

proctype Thread(byte t; byte d) {
	byte n, c, w, res;
	bit won, want, mine, last, is, may;
	byte at;
	byte k, o;

end_none:
	HAS(go, t);
	d_step {
		c = CAGE(d);
		n = (t == 0 -> N0 : (t == 1 -> N1 : (t == 2 -> N2 : (t == 3 -> N3 : N4))))
	};
	/* The order at the entry: the deadline, then the gate, then the guest. */
#ifdef MUT_GATE_FIRST
	if
	:: closed[d] -> goto left
	:: else
	fi;
	DEL(passed, t);
#else
	DEL(passed, t);
	if
	:: closed[d] -> goto left
	:: else
	fi;
#endif
	d_step { ADD(runs, t); ADD(inguest, t) };

guest:
	/* Guest code: goes round its loops until something happens. */
	if
	:: HAS(passed, t) -> goto callback
	:: MAY(OP_WAIT) -> n--; goto atomicWait
	:: MAY(OP_POLL) -> n--; goto poll
	:: MAY(OP_HOST) -> n--; goto hostCall
	:: MAY(OP_STUCK) -> n--; goto stuckCall
	:: MAY(OP_SPAWN) -> n--; goto spawn
	:: MAY(OP_EXIT) -> n--; goto exitGroup
	:: MAY(OP_RETURN) -> n--; goto ends
	:: MAY(OP_KILL) -> n--; goto kills
#if NW > 0
	:: MAY(OP_CALL) -> n--; goto call
#endif
	:: MAY(OP_EXEC) -> n--; goto execNow
	:: n > 0 -> n = 0; goto guest /* spins from here on */
	fi;

callback:
	/* The epoch has passed the deadline. The new deadline is relative to the epoch as it is when it is set. */
	atomic { RUNS; ADD(rearmed, t) };
#ifdef MUT_NO_MARK
	DEL(rearmed, t);
#endif
	if
	:: closed[d] -> goto departs
	:: else
	fi;
	DEL(passed, t);
	goto guest;

atomicWait:
	atomic { RUNS; DEL(inguest, t); DEL(rearmed, t) };
#ifdef MUT_PUBLISH_LATE
	skip;
#else
	ADD(pubw, t);
#endif
	/* Under the queue's lock: the gate is looked at once more. */
	atomic {
		if
#ifndef MUT_PARK_UNCHECKED
		:: closed[d] -> skip
#endif
		:: else -> ADD(parked, t); inq[t] = WAITQ; tok[t] = 0
		fi
	};
#ifdef MUT_PUBLISH_LATE
	ADD(pubw, t);
#endif
	if
	:: inq[t] == 0 -> skip
	:: may_notify(t) -> d_step { inq[t] = 0; tok[t] = NOTIFIED } /* or its time ran out */
	fi;
	tok[t] = 0;
	unmark(t, is);
	if
	:: is -> goto gone
	:: else
	fi;
	d_step { DEL(pubw, t); ADD(inguest, t) };
	if
	:: closed[d] -> goto departs
	:: else
	fi;
	goto guest;

poll:
	atomic { RUNS; DEL(inguest, t); DEL(rearmed, t) };
#ifdef MUT_POLL_CHECK_FIRST
	if
	:: closed[d] -> goto polled
	:: else
	fi;
	ADD(parked, t);
	HAS(wake, d);
#else
	ADD(parked, t);
	if
	:: closed[d] -> skip
	:: else ->
		if
		:: HAS(wake, d) -> skip
		:: may_notify(t) -> skip /* what it waits for is ready */
		fi
	fi;
#endif
	unmark(t, is);
	if
	:: is -> goto gone
	:: else
	fi;
#ifdef MUT_POLL_CHECK_FIRST
polled:
#endif
	goto returns;

hostCall:
	atomic { RUNS; DEL(inguest, t); DEL(rearmed, t) };
	if
	:: HAS(cancel, d) -> skip
	:: may_notify(t) -> skip
	fi;
	goto returns;

stuckCall:
	atomic { RUNS; DEL(inguest, t); DEL(rearmed, t); ADD(held, t) };
	released;
	DEL(held, t);
	goto returns;

spawn:
	atomic { RUNS; DEL(inguest, t); DEL(rearmed, t); alive[c]++; w = 0 };
	do
	:: w < NT && HAS(SPAWNED, w) && !HAS(go, w) -> break
	:: w < NT && !(HAS(SPAWNED, w) && !HAS(go, w)) -> w++
	:: w == NT -> break
	od;
	if
	:: w < NT -> startThread(w, d)
	:: else -> alive[c]--
	fi;
	w = 0;
	goto returns;

exitGroup:
	atomic { RUNS; DEL(inguest, t); DEL(rearmed, t) };
	begin(c, BY_GROUP);
#ifdef MUT_ASKER_WAITS
	phase[c] >= Zombie;
#endif
	goto returns;

kills:
	atomic { RUNS; DEL(inguest, t); DEL(rearmed, t) };
#if NC > 1
	begin(1 - c, BY_CAGE);
#endif
#ifdef MUT_KILLER_WAITS
	phase[1 - c] >= Zombie;
#endif
	goto returns;

execNow:
	/* The new module is compiled before anything is stopped. */
	atomic { RUNS; DEL(inguest, t); DEL(rearmed, t) };
	beginExec(c);
	goto returns;

returns:
	/* A host call ends: the gate is read before guest code goes on. */
	ADD(inguest, t);
	if
	:: closed[d] -> goto departs
	:: else
	fi;
	goto guest;

ends:
	/* The host is told first, and whoever is the last of the cage gives it its cause. */
	atomic { RUNS; DEL(inguest, t); DEL(rearmed, t); alive[c]--; last = (alive[c] == 0) };
	if
#ifdef MUT_THREAD_SETS_STATUS
	:: true ->
#else
	:: last ->
#endif
		last = 0;
		assert(I5 || alive[c] == 0);
		begin(c, BY_LAST)
	:: else
	fi;
left:
	/* Domain::left: it was not counted out before. */
	atomic { DEL(runs, t); DEL(inguest, t) };
	DEL(live, t);
	leave(d);
	goto gone;

departs:
	depart(t, d);
	goto gone;

#if NW > 0
call:
	/* Whoever stops this domain from here on finds the thread on its way into the grate; or it finds its gate closed. */
	atomic { RUNS; DEL(inguest, t); DEL(rearmed, t); ADD(atgrate, t) };
	d_step {
		may = !closed[GRATE];
#ifdef MUT_CALL_UNGATED
		may = 1;
#endif
		if
		:: may -> assert(I3 || !closed[GRATE]); inside[GRATE]++; ADD(waits4, t)
		:: else
		fi
	};
	if
	:: !may ->
#ifdef MUT_NATIVE
		res = 9;
#endif
		goto called
	:: else -> may = 0
	fi;
#ifndef MUT_ENTER_UNCHECKED
	if
	:: closed[d] -> goto out
	:: else
	fi;
#endif

acquire:
	atomic {
		w = NW;
		if
		:: idle & 1 -> w = 0; DEL(idle, 0)
#if NW > 1
		:: else ->
			if
			:: idle & 2 -> w = 1; DEL(idle, 1)
			:: else
			fi
#else
		:: else
#endif
		fi
	};
	if
	:: w < NW -> goto serve
	:: else
	fi;
	waiting++;
	ADD(pubg, t);
	/* Under the queue's lock. */
	atomic {
		if
		:: idle != 0 -> skip
#ifndef MUT_GRATE_PARK_UNCHECKED
		:: idle == 0 && (closed[GRATE] || closed[d]) -> skip
#endif
		:: else -> ADD(parked, t); inq[t] = GRATEQ; tok[t] = 0
		fi
	};
	inq[t] == 0;
	waiting--;
	unmark(t, is);
	DEL(pubg, t);
	if
	:: tok[t] >= HANDED ->
		d_step { w = tok[t] - HANDED; tok[t] = 0 };
		if
#ifndef MUT_HANDED_LOST
		:: is -> putBack(w)
#else
		:: is -> skip
#endif
		:: else -> goto serve
		fi
	:: else -> tok[t] = 0
	fi;
	w = 0;
	if
	:: is -> /* counted out of its own domain, not of the grate's */
		DEL(waits4, t);
		leave(GRATE);
		goto gone
	:: closed[GRATE] && !is -> goto out
	:: closed[d] && !is -> goto out
	:: else -> goto acquire
	fi;

serve:
	/* The worker's deadline was set before: what is found in order here is interrupted if it changes. */
	if
	:: closed[GRATE] || expired[d] -> putBack(w); w = 0; goto out
	:: else
	fi;
	d_step { os[w] = t; ADD(runs, NT + w); ADD(inguest, NT + w) };
	may = 1; /* one operation, and then it returns */

worker:
#define WS (NT + w)
#define WRUNS assert(I1 || (phase[GRATE] <= Stopping && HAS(runs, WS)))
	if
	:: HAS(passed, WS) -> goto workerCallback
	:: !may -> goto served
	:: may && (WOPS & W_SPIN) -> HAS(passed, WS); goto workerCallbackSpin
	:: may && (WOPS & W_WAIT) -> may = 0; goto workerWait
	:: may && (WOPS & W_POLL) -> may = 0; goto workerPoll
	:: may && (WOPS & W_EXIT) -> may = 0; goto workerExit
	:: may && (WOPS & W_KILL) -> may = 0; goto workerKill
	:: may && (WOPS & W_TRAP) -> may = 0; goto workerTrap
	:: may -> may = 0
	fi;
	goto worker;

workerCallbackSpin:
workerCallback:
	/* Marked for the grate's stop and for the caller's. */
	atomic { WRUNS; ADD(rearmed, WS) };
	ADD(rearmed, t);
	if
	:: closed[GRATE] -> goto workerDeparts
	:: else
	fi;
	if
	:: expired[d] -> goto discarded
	:: else
	fi;
	DEL(passed, WS);
	goto worker;

workerWait:
	atomic { WRUNS; DEL(inguest, WS); DEL(rearmed, WS) };
	d_step { DEL(rearmed, t); ADD(pubw, t) };
	ADD(pubw, WS);
workerPark:
	atomic {
		if
		:: closed[GRATE] || expired[d] -> skip
		:: else -> ADD(parked, WS); inq[t] = WAITQ; tok[t] = 0
		fi
	};
	inq[t] == 0; /* nobody notifies it */
	unmark(WS, is);
	if
	:: !is && !closed[GRATE] && !expired[d] -> tok[t] = 0; goto workerPark /* the caller's stop wakes for nothing, until its grace is over */
	:: else
	fi;
	tok[t] = 0;
	DEL(pubw, t);
	if
	:: is -> is = 0; DEL(pubw, WS); goto workerOut
	:: else
	fi;
	d_step { DEL(pubw, WS); ADD(inguest, WS) };
	if
	:: closed[GRATE] -> goto workerDeparts
	:: else -> goto discarded
	fi;

workerPoll:
	atomic { WRUNS; DEL(inguest, WS); DEL(rearmed, WS); DEL(rearmed, t) };
	/* Looks, sleeps and looks again: see OsThread::wake. */
	if
	:: expired[d] -> goto discarded
	:: closed[d] && !expired[d] -> goto workerPolled
	:: else
	fi;
	ADD(parked, WS);
	if
	:: closed[GRATE] -> skip
	:: else ->
		if
		:: HAS(wake, GRATE) -> skip
#ifndef MUT_NO_INTERRUPT
		:: HAS(interrupt, t) -> skip
#endif
		fi
	fi;
	unmark(WS, is);
	if
	:: is -> is = 0; goto workerOut
	:: else
	fi;
workerPolled:
	DEL(interrupt, t);
	goto workerReturns;

workerExit:
	atomic { WRUNS; DEL(inguest, WS); DEL(rearmed, WS); DEL(rearmed, t) };
	begin(GRATE, BY_GROUP);
	goto workerReturns;

workerKill:
	atomic { WRUNS; DEL(inguest, WS); DEL(rearmed, WS); DEL(rearmed, t) };
	begin(c, BY_CAGE);
#ifdef MUT_WORKER_WAITS
	phase[c] >= Zombie;
#endif
	goto workerReturns;

workerReturns:
	ADD(inguest, WS);
	if
	:: closed[GRATE] -> goto workerDeparts
	:: else
	fi;
	if
	:: expired[d] -> goto discarded
	:: else
	fi;
	goto worker;

workerTrap:
	/* The grate ends as a process does by a signal. The worker is no more. */
	atomic { WRUNS; DEL(inguest, WS); DEL(runs, WS) };
	begin(GRATE, BY_TRAP);
	DEL(live, WS);
	w = 0;
	goto out;

discarded:
	/* The grace of the caller's domain is over. */
	atomic { WRUNS; torn = 1; DEL(inguest, WS); DEL(runs, WS) };
	DEL(live, WS);
	w = 0;
	goto out;

workerDeparts:
	depart(WS, GRATE);
workerOut:
	/* The grate has stopped without this worker, and may be deleted: the caller is in it no longer. */
	atomic { DEL(waits4, t); DEL(inguest, WS); w = 0; may = 0 };
	goto called;

served:
	atomic { DEL(runs, WS); DEL(inguest, WS); DEL(rearmed, WS); DEL(rearmed, t) };
	putBack(w);
	w = 0;
out:
	may = 0;
	DEL(waits4, t);
	leave(GRATE);
called:
	/* Back at home. */
	assert(I4 || res != 9);
	d_step { w = 0; may = 0; DEL(atgrate, t); ADD(inguest, t) };
	if
	:: closed[d] -> goto departs
	:: else
	fi;
	goto guest;
#endif

gone:
	/* It unwinds its own store, and goes back to the pool. */
	atomic { n = 0; is = 0; c = 0 }
}

/* ================================================================================================================
 * The host, and who watches
 */

/* Kills cage c, at any moment. */
proctype Killer(byte c; byte why) {
	bit won, want, mine;
	byte at, k, o;

#ifdef REUSE
	/* By a handle, which names an id and the cage that had it: one look at both. */
	at = idof;
#ifndef MUT_STALE_HANDLE
	if
	:: at != c -> goto over
	:: else
	fi;
#endif
	assert(I7 || at == c);
	at = 0;
#endif
	begin(c, why);
over:
	skip
}

/* Who waits for cage c: wakes when it is a Zombie, and reaps it. */
proctype Waiter(byte c) {
end_waits:
	phase[c] >= Zombie;
	d_step {
		assert(I6 || steps[c] == 3);
		assert(I5 || cause[c] == first[c]);
		assert(I2 || steps[c] == 3);
		advance(c, Zombie, Reaped)
	}
}

#ifdef REUSE
/* Gives the id of cage 0 to the next cage. */
proctype Reuser() {
end_waits:
#ifdef MUT_REUSE_EARLY
	phase[0] >= Quiescent;
#else
	phase[0] == Reaped;
#endif
	d_step { assert(I7 || phase[0] == Reaped); idof = 1 }
}
#endif

#define HELD(c) ((held & own[dom[c]]) != 0)
#define OVER(c) (cause[c] == 0 || phase[c] == Reaped)

/* Moves when nobody else can: all that should have happened has. */
proctype Judge() {
	byte c;

end_judge:
	timeout;
#ifdef MUT_FREE_WHEN_STUCK
	/* Surely nothing runs any more. */
	do
	:: c < NC ->
		if
		:: phase[c] == Stopping && finishes[dom[c]] == 0 -> finishes[dom[c]] = 1
		:: else
		fi;
		c++
	:: else -> c = 0; break
	od;
	timeout;
#endif
	d_step {
#if NW > 0
		/* Nobody is left at a grate that stops. */
		assert(I4 || !closed[GRATE] || waits4 == 0);
		/* A thread that waits for a worker while one is idle was forgotten. */
		assert(I4 || idle == 0 || (inq[0] != GRATEQ
#if NT > 1
			&& inq[1] != GRATEQ
#endif
#if NT > 2
			&& inq[2] != GRATEQ
#endif
			));
#endif
		c = 0;
		do
		:: c < NC ->
			if
			:: HELD(c) ->
				/* Stuck: reported, nothing freed, in no later phase than Stopping. */
				assert(I1 || phase[c] <= Stopping);
				assert(I1 || steps[c] == 0);
				stuck[c] = (phase[c] == Stopping)
			:: else ->
				/* Every other exit has ended, whoever is stuck. */
				assert(I8 || OVER(c) || held != 0);
				assert(I9 || OVER(c));
				/* One that no thread is left in has ended, or never began. */
				assert(I5 || alive[c] > 0 || cause[c] != 0 || (own[dom[c]] & (BIT(NT) - 1)) == 0)
			fi;
			c++
		:: else -> break
		od;
		c = 0;
		released = 1
	};
	timeout;
	d_step {
		/* What was stuck went on by itself, and who was counted out in its sleep was woken. */
		assert(I8 || !(HAS(claimed, 0) && inq[0] != 0));
		c = 0;
		do
		:: c < NC ->
			assert(I8 || OVER(c));
			assert(I2 || phase[c] != Reaped || steps[c] == 3);
			c++
		:: else -> break
		od;
		c = 0
	}
}

init {
	byte k;

	atomic {
		do
		:: k < NT ->
			own[HOME(k)] = own[HOME(k)] | BIT(k);
			run Thread(k, HOME(k));
			if
			:: !HAS(SPAWNED, k) && k != NEXT -> alive[CAGE(HOME(k))]++
			:: else
			fi;
			k++
		:: else -> break
		od;
#if NW > 0
		own[GRATE] = own[GRATE] | (ALL & ~(BIT(NT) - 1));
		live = own[GRATE] & ~(BIT(NT) - 1);
		idle = BIT(NW) - 1;
#endif
		k = 0;
		do
		:: k < NC -> dom[k] = k; run Domain(k); run Waiter(k); k++
		:: else -> break
		od;
		if
		:: NEXT != 255 -> run Domain(SPARE)
		:: else
		fi;
		run Waker();
		run Sweeper();
		run Judge();
#ifdef REUSE
		run Reuser();
		run Killer(0, BY_RIVAL);
#endif
		k = 0;
		do
		:: k < NC ->
			if
			:: HAS(KILLS, k) -> run Killer(k, BY_HOST)
			:: else
			fi;
			k++
		:: else -> break
		od;
		k = 0;
		do
		:: k < KILLERS -> run Killer(0, BY_RIVAL); k++
		:: else -> break
		od;
		k = 0
	};
	/* The host starts the first threads: a kill may be quicker. */
	do
	:: k < NT ->
		if
		:: !HAS(SPAWNED, k) && k != NEXT -> startThread(k, HOME(k))
		:: else
		fi;
		k++
	:: else -> break
	od;
	k = 0
}
