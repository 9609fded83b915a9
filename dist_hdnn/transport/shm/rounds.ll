; The code of a round; see rounds.py, which also puts FUTEX and PAUSE in.
;
;   Message  { done, flag, allowed, bell, memory, slots, bytes, runs, table, peer }
;   Channel  { round, sends, messages, bell, spins, yields, nap, waited, who }, then the messages

%Run = type { ptr, i64 }
%Message = type { i64, ptr, ptr, ptr, ptr, i64, i64, i64, ptr, i64 }
%Channel = type { i64, i64, i64, ptr, i64, i64, [2 x i64], ptr, i64 }

declare i64 @syscall(i64, ...)
declare i32 @sched_yield()
declare i32 @clock_gettime(i32, ptr)
declare ptr @memcpy(ptr, ptr, i64)

; Copy runs to memory, one after the other, or back.
define internal void @copy(ptr %memory, ptr %table, i64 %runs, i1 %back) {
entry:
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
  %place = phi ptr [ %memory, %entry ], [ %after, %body ]
  %more = icmp slt i64 %i, %runs
  br i1 %more, label %body, label %end
body:
  %run = getelementptr %Run, ptr %table, i64 %i
  %bytes.at = getelementptr %Run, ptr %run, i64 0, i32 1
  %rows = load ptr, ptr %run
  %bytes = load i64, ptr %bytes.at
  %to = select i1 %back, ptr %rows, ptr %place
  %from = select i1 %back, ptr %place, ptr %rows
  %ignored = call ptr @memcpy(ptr %to, ptr %from, i64 %bytes)
  %after = getelementptr i8, ptr %place, i64 %bytes
  %next = add i64 %i, 1
  br label %head
end:
  ret void
}

; Copy a message of this round from its runs, or back.
define internal void @move(ptr %m, i64 %round, i1 %back) {
  %memory.at = getelementptr %Message, ptr %m, i64 0, i32 4
  %slots.at = getelementptr %Message, ptr %m, i64 0, i32 5
  %bytes.at = getelementptr %Message, ptr %m, i64 0, i32 6
  %runs.at = getelementptr %Message, ptr %m, i64 0, i32 7
  %table.at = getelementptr %Message, ptr %m, i64 0, i32 8
  %memory = load ptr, ptr %memory.at
  %slots = load i64, ptr %slots.at
  %bytes = load i64, ptr %bytes.at
  %runs = load i64, ptr %runs.at
  %table = load ptr, ptr %table.at
  %straight = icmp eq i64 %slots, 0
  %odd = and i64 %round, 1
  %slot = select i1 %straight, i64 0, i64 %odd
  %offset = mul i64 %slot, %bytes
  %place = getelementptr i8, ptr %memory, i64 %offset
  call void @copy(ptr %place, ptr %table, i64 %runs, i1 %back)
  ret void
}

; Wake the worker of this bell if it sleeps.
define internal void @ring(ptr %bell) {
  %sleepers.at = getelementptr i32, ptr %bell, i64 1
  %sleepers = load atomic i32, ptr %sleepers.at monotonic, align 4
  %none = icmp eq i32 %sleepers, 0
  br i1 %none, label %end, label %wake
wake:
  %rung = atomicrmw add ptr %bell, i32 1 seq_cst
  %woken = call i64 (i64, ...) @syscall(i64 FUTEX, ptr %bell, i64 1, i64 2147483647)
  br label %end
end:
  ret void
}

; Put a message if its receiver allows it.
define internal i1 @put(ptr %m, i64 %round) {
  %allowed.at = getelementptr %Message, ptr %m, i64 0, i32 2
  %allowed.word = load ptr, ptr %allowed.at
  %allowed = load atomic i64, ptr %allowed.word acquire, align 8
  %free = icmp sge i64 %allowed, %round
  br i1 %free, label %go, label %end
go:
  call void @move(ptr %m, i64 %round, i1 0)
  %flag.at = getelementptr %Message, ptr %m, i64 0, i32 1
  %flag = load ptr, ptr %flag.at
  store atomic i64 %round, ptr %flag release, align 8
  store i64 %round, ptr %m
  br label %end
end:
  ret i1 %free
}

; Take a message if it has come: a mailbox is emptied, and its slot is free for the round after the next one.
define internal i1 @take(ptr %m, i64 %round) {
  %flag.at = getelementptr %Message, ptr %m, i64 0, i32 1
  %slots.at = getelementptr %Message, ptr %m, i64 0, i32 5
  %flag.word = load ptr, ptr %flag.at
  %flag = load atomic i64, ptr %flag.word acquire, align 8
  %here = icmp sge i64 %flag, %round
  br i1 %here, label %come, label %end
come:
  store i64 %round, ptr %m
  %slots = load i64, ptr %slots.at
  %straight = icmp eq i64 %slots, 0
  br i1 %straight, label %end, label %empty
empty:
  call void @move(ptr %m, i64 %round, i1 1)
  %allowed.at = getelementptr %Message, ptr %m, i64 0, i32 2
  %allowed = load ptr, ptr %allowed.at
  %later = add i64 %round, %slots
  store atomic i64 %later, ptr %allowed release, align 8
  br label %end
end:
  ret i1 %here
}

; Put and take what can be, and return how many messages are left.
define internal i64 @advance(ptr %c) {
entry:
  %round = load i64, ptr %c
  %sends.at = getelementptr %Channel, ptr %c, i64 0, i32 1
  %messages.at = getelementptr %Channel, ptr %c, i64 0, i32 2
  %who.at = getelementptr %Channel, ptr %c, i64 0, i32 8
  %sends = load i64, ptr %sends.at
  %messages = load i64, ptr %messages.at
  %first = getelementptr %Channel, ptr %c, i64 1
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %tail ]
  %left = phi i64 [ 0, %entry ], [ %still, %tail ]
  %more = icmp slt i64 %i, %messages
  br i1 %more, label %body, label %end
body:
  %m = getelementptr %Message, ptr %first, i64 %i
  %done = load i64, ptr %m
  %over = icmp eq i64 %done, %round
  br i1 %over, label %tail, label %open
open:
  %sent = icmp slt i64 %i, %sends
  br i1 %sent, label %put, label %take
put:
  %gone = call i1 @put(ptr %m, i64 %round)
  br i1 %gone, label %tell, label %wait
take:
  %come = call i1 @take(ptr %m, i64 %round)
  br i1 %come, label %tell, label %wait
tell:
  %bell.at = getelementptr %Message, ptr %m, i64 0, i32 3
  %bell = load ptr, ptr %bell.at
  fence seq_cst
  call void @ring(ptr %bell)
  br label %tail
wait:
  %peer.at = getelementptr %Message, ptr %m, i64 0, i32 9
  %peer = load i64, ptr %peer.at
  store i64 %peer, ptr %who.at
  %one.more = add i64 %left, 1
  br label %tail
tail:
  %still = phi i64 [ %left, %body ], [ %left, %tell ], [ %one.more, %wait ]
  %next = add i64 %i, 1
  br label %head
end:
  ret i64 %left
}

define i64 @post(ptr %c) {
entry:
  %before = load i64, ptr %c
  %round = add i64 %before, 1
  store i64 %round, ptr %c
  %sends.at = getelementptr %Channel, ptr %c, i64 0, i32 1
  %messages.at = getelementptr %Channel, ptr %c, i64 0, i32 2
  %sends = load i64, ptr %sends.at
  %messages = load i64, ptr %messages.at
  %first = getelementptr %Channel, ptr %c, i64 1
  br label %allow.head
allow.head:
  %r = phi i64 [ %sends, %entry ], [ %r.next, %allow.tail ]
  %r.more = icmp slt i64 %r, %messages
  br i1 %r.more, label %allow, label %put.head
allow:
  %in = getelementptr %Message, ptr %first, i64 %r
  %slots.at = getelementptr %Message, ptr %in, i64 0, i32 5
  %slots = load i64, ptr %slots.at
  %straight = icmp eq i64 %slots, 0
  br i1 %straight, label %open, label %allow.tail
open:
  %allowed.at = getelementptr %Message, ptr %in, i64 0, i32 2
  %allowed = load ptr, ptr %allowed.at
  store atomic i64 %round, ptr %allowed release, align 8
  br label %allow.tail
allow.tail:
  %r.next = add i64 %r, 1
  br label %allow.head
put.head:
  %s = phi i64 [ 0, %allow.head ], [ %s.next, %put ]
  %s.more = icmp slt i64 %s, %sends
  br i1 %s.more, label %put, label %tell
put:
  %out = getelementptr %Message, ptr %first, i64 %s
  %gone = call i1 @put(ptr %out, i64 %round)
  %s.next = add i64 %s, 1
  br label %put.head
tell:
  fence seq_cst
  br label %tell.head
tell.head:
  %i = phi i64 [ 0, %tell ], [ %i.next, %told ]
  %i.more = icmp slt i64 %i, %messages
  br i1 %i.more, label %told, label %end
told:
  %m = getelementptr %Message, ptr %first, i64 %i
  %bell.at = getelementptr %Message, ptr %m, i64 0, i32 3
  %bell = load ptr, ptr %bell.at
  call void @ring(ptr %bell)
  %i.next = add i64 %i, 1
  br label %tell.head
end:
  ret i64 0
}

; Nanoseconds of the monotonic clock.
define internal i64 @clock() {
  %time = alloca [2 x i64]
  %failed = call i32 @clock_gettime(i32 1, ptr %time)
  %rest.at = getelementptr i64, ptr %time, i64 1
  %seconds = load i64, ptr %time
  %rest = load i64, ptr %rest.at
  %whole = mul i64 %seconds, 1000000000
  %sum = add i64 %whole, %rest
  ret i64 %sum
}

; Note when waiting began, unless it is known.
define internal void @begin(ptr %since) {
  %known = load i64, ptr %since
  %fresh = icmp eq i64 %known, 0
  br i1 %fresh, label %read, label %end
read:
  %now = call i64 @clock()
  store i64 %now, ptr %since
  br label %end
end:
  ret void
}

; Add the wait, if there was one, to the seconds of the worker that was waited for last.
define internal void @account(ptr %c, ptr %since) {
  %began = load i64, ptr %since
  %none = icmp eq i64 %began, 0
  br i1 %none, label %end, label %add
add:
  %now = call i64 @clock()
  %lasted = sub i64 %now, %began
  %nanoseconds = sitofp i64 %lasted to double
  %seconds = fmul double %nanoseconds, 1.0e-9
  %waited.at = getelementptr %Channel, ptr %c, i64 0, i32 7
  %who.at = getelementptr %Channel, ptr %c, i64 0, i32 8
  %waited = load ptr, ptr %waited.at
  %who = load i64, ptr %who.at
  %place = getelementptr double, ptr %waited, i64 %who
  %before = load double, ptr %place
  %after = fadd double %before, %seconds
  store double %after, ptr %place
  br label %end
end:
  ret void
}

define i64 @complete(ptr %c) {
entry:
  %since = alloca i64
  store i64 0, ptr %since
  %bell.at = getelementptr %Channel, ptr %c, i64 0, i32 3
  %spins.at = getelementptr %Channel, ptr %c, i64 0, i32 4
  %yields.at = getelementptr %Channel, ptr %c, i64 0, i32 5
  %nap.time = getelementptr %Channel, ptr %c, i64 0, i32 6
  %bell = load ptr, ptr %bell.at
  %sleepers = getelementptr i32, ptr %bell, i64 1
  %spins = load i64, ptr %spins.at
  %yields = load i64, ptr %yields.at
  %tries = add i64 %spins, %yields
  %open = call i64 @advance(ptr %c)
  %none = icmp eq i64 %open, 0
  br i1 %none, label %end, label %turn
turn:
  %before = phi i64 [ %open, %entry ], [ %left, %again ]
  %count = phi i64 [ 0, %entry ], [ %following, %again ]
  %long = icmp eq i64 %count, 64
  br i1 %long, label %note, label %choose
note:
  call void @begin(ptr %since)
  br label %choose
choose:
  %spin = icmp slt i64 %count, %spins
  br i1 %spin, label %pause, label %longer
pause:
  PAUSE
  br label %look
longer:
  %yield = icmp slt i64 %count, %tries
  br i1 %yield, label %give, label %nap
give:
  %given = call i32 @sched_yield()
  br label %look
nap:
  call void @begin(ptr %since)
  %value = load atomic i32, ptr %bell acquire, align 4
  %others = atomicrmw add ptr %sleepers, i32 1 seq_cst
  fence seq_cst
  %seen = call i64 @advance(ptr %c)
  %same = icmp eq i64 %seen, %before
  br i1 %same, label %sleep, label %awake
sleep:
  %slept = call i64 (i64, ...) @syscall(i64 FUTEX, ptr %bell, i64 0, i32 %value, ptr %nap.time, i64 0, i64 0)
  br label %awake
awake:
  %rested = phi i1 [ 0, %nap ], [ 1, %sleep ]
  %still = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  br label %look
look:
  %napped = phi i1 [ 0, %pause ], [ 0, %give ], [ %rested, %awake ]
  %left = call i64 @advance(ptr %c)
  %all = icmp eq i64 %left, 0
  br i1 %all, label %end, label %judge
judge:
  %old = icmp eq i64 %left, %before
  %tired = and i1 %napped, %old
  br i1 %tired, label %end, label %again
again:
  %next = add i64 %count, 1
  %following = select i1 %old, i64 %next, i64 0
  br label %turn
end:
  %result = phi i64 [ 0, %entry ], [ 0, %look ], [ 1, %judge ]
  call void @account(ptr %c, ptr %since)
  ret i64 %result
}

define i64 @publish(ptr %word, i64 %value, ptr %bell) {
  store atomic i64 %value, ptr %word release, align 8
  fence seq_cst
  call void @ring(ptr %bell)
  ret i64 0
}

define i64 @look(ptr %word) {
  %value = load atomic i64, ptr %word acquire, align 8
  ret i64 %value
}
