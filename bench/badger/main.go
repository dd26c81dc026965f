// BadgerDB beside kv_bench.c: the same workloads by the same names, the same keys and values (kv_gen.h), one line of JSON.
//
// Its defaults but for compression, caches, table size and syncs, which are those of the other stores. Built without modules
// against Debian's golang-github-dgraph-io-badger-dev.
package main

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io/ioutil"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dgraph-io/badger"
	"github.com/dgraph-io/badger/options"
)

const (
	keyLen         = 16
	metricSeries   = 10000
	metricScanRows = 500
	seekNexts      = 50
	scanRowsMax    = 100
	writerRate     = 20000
)

// ---- keys and values, as in kv_gen.h

func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb
	return x ^ (x >> 31)
}

func putKey(out []byte, i uint64) []byte {
	for at := keyLen - 1; at >= 0; at-- {
		out[at] = byte('0' + i%10)
		i /= 10
	}
	return out[:keyLen]
}

func putMissing(out []byte, i uint64) []byte {
	putKey(out, i)
	out[keyLen-1] += 'a' - '0'
	return out[:keyLen]
}

func putValue(out []byte, i, generation uint64, length int) []byte {
	half := (length - 8 + 1) / 2
	state := mix(i ^ (generation << 40))
	binary.LittleEndian.PutUint64(out, i)
	for at := 0; at < half; at += 8 {
		state = mix(state)
		binary.LittleEndian.PutUint64(out[8+at:], state)
	}
	copy(out[8+half:length], out[8:8+length-8-half])
	return out[:length]
}

func shuffle(j, n uint64) uint64 {
	bits := uint(1)
	for bits < 63 && uint64(1)<<bits < n {
		bits++
	}
	mask := uint64(1)<<bits - 1
	half := (bits + 1) / 2
	for {
		j = (j*0xd6e8feb86659fd93 + 0x2545f4914f6cdd1d) & mask
		j ^= j >> half
		j = (j * 0x9e3779b97f4a7c15) & mask
		j ^= j >> half
		j = (j * 0xbf58476d1ce4e5b9) & mask
		j ^= j >> half
		if j < n {
			return j
		}
	}
}

type zipf struct {
	n                                      uint64
	theta, alpha, zetan, eta, halfPowTheta float64
}

func newZipf(n uint64) *zipf {
	z := &zipf{n: n, theta: 0.99}
	for i := uint64(1); i <= n; i++ {
		z.zetan += math.Pow(1/float64(i), z.theta)
	}
	zeta2 := 1 + math.Pow(0.5, z.theta)
	z.alpha = 1 / (1 - z.theta)
	z.eta = (1 - math.Pow(2/float64(n), 1-z.theta)) / (1 - zeta2/z.zetan)
	z.halfPowTheta = zeta2
	return z
}

func (z *zipf) key(random uint64) uint64 {
	u := float64(random>>11) / (1 << 53)
	uz := u * z.zetan
	rank := uint64(0)
	if uz >= z.halfPowTheta {
		rank = uint64(float64(z.n) * math.Pow(z.eta*u-z.eta+1, z.alpha))
	} else if uz >= 1 {
		rank = 1
	}
	return mix(rank) % z.n
}

func putMetricKey(out []byte, series, step uint64) []byte {
	binary.BigEndian.PutUint64(out, mix(series)>>20)
	binary.BigEndian.PutUint64(out[8:], 1700000000000+step*10000)
	return out[:keyLen]
}

func metricValueLen(i uint64) int { return 100 + int(mix(i)%101) }

// ---- measuring

type bench struct {
	db                   *badger.DB
	dir                  string
	keys, ops            uint64
	valueLen, batch, nTh int
	settle               time.Duration
	start                time.Time
	cpu0                 float64
	written0             uint64
	wall, cpu            float64
	settled, settledCPU  float64
	written, done        uint64
	lat                  []uint32
	extra                map[string]interface{}
}

func die(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "kv_bench_badger: "+format+"\n", args...)
	os.Exit(1)
}

func must(err error) {
	if err != nil {
		die("%v", err)
	}
}

func check(ok bool, what string) {
	if !ok {
		die("%s", what)
	}
}

func cpuSeconds() float64 {
	var u syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)*1e-6
}

func procNumber(path, name string) uint64 {
	text, err := ioutil.ReadFile(path)
	must(err)
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, name) {
			v, _ := strconv.ParseUint(strings.Fields(line[len(name):])[0], 10, 64)
			return v
		}
	}
	return 0
}

func dirBytes(dir string) uint64 {
	sum := uint64(0)
	filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			sum += uint64(info.Sys().(*syscall.Stat_t).Blocks) * 512
		}
		return nil
	})
	return sum
}

func waitQuiet(limit time.Duration) (quiet bool, at time.Time, atCPU float64) {
	start := time.Now()
	at, atCPU = start, cpuSeconds()
	last, still := atCPU, 0
	for still < 5 && time.Since(start) < limit {
		time.Sleep(100 * time.Millisecond)
		now := cpuSeconds()
		still++
		if now-last >= 0.004 {
			still = 0
			at, atCPU = time.Now(), now
		}
		last = now
	}
	return still == 5, at, atCPU
}

func (b *bench) measureStart() {
	b.written0 = procNumber("/proc/self/io", "write_bytes:")
	b.cpu0 = cpuSeconds()
	b.start = time.Now()
}

func (b *bench) measureEnd(settle bool) {
	end, cpu := time.Now(), cpuSeconds()
	quietAt, quietCPU := end, cpu
	if settle && b.settle > 0 {
		_, quietAt, quietCPU = waitQuiet(b.settle)
	}
	b.wall, b.cpu = end.Sub(b.start).Seconds(), cpu-b.cpu0
	b.settled, b.settledCPU = quietAt.Sub(b.start).Seconds(), quietCPU-b.cpu0
	b.written = procNumber("/proc/self/io", "write_bytes:") - b.written0
}

// ---- pieces of workloads

type writer struct {
	b    *bench
	txn  *badger.Txn
	n    int
	room []byte
}

func newWriter(b *bench) *writer {
	return &writer{b: b, room: make([]byte, b.batch*(keyLen+b.valueLen+256))}
}

func (w *writer) slot() (key, value []byte) {
	if w.txn == nil {
		w.txn = w.b.db.NewTransaction(true)
	}
	each := keyLen + w.b.valueLen + 256
	at := w.room[w.n*each : (w.n+1)*each]
	return at[:keyLen], at[keyLen:]
}

func (w *writer) step() {
	w.n++
	if w.n == w.b.batch {
		w.flush()
	}
}

func (w *writer) flush() {
	if w.n > 0 {
		must(w.txn.Commit())
	}
	w.txn, w.n = nil, 0
}

func (w *writer) put(i, generation uint64) {
	key, value := w.slot()
	must(w.txn.Set(putKey(key, i), putValue(value, i, generation, w.b.valueLen)))
	w.step()
}

func (w *writer) del(i uint64) {
	key, _ := w.slot()
	must(w.txn.Delete(putKey(key, i)))
	w.step()
}

func (b *bench) get(i uint64) {
	var room [keyLen]byte
	txn := b.db.NewTransaction(false)
	item, err := txn.Get(putKey(room[:], i))
	must(err)
	must(item.Value(func(value []byte) error {
		check(len(value) == b.valueLen && binary.LittleEndian.Uint64(value) == i, "a key has another's value")
		return nil
	}))
	txn.Discard()
}

func keyNumber(key []byte) uint64 {
	v, err := strconv.ParseUint(string(key), 10, 64)
	must(err)
	return v
}

func (b *bench) scanSome(from, rowsMax uint64) uint64 {
	var room [keyLen]byte
	rows := uint64(0)
	txn := b.db.NewTransaction(false)
	opt := badger.DefaultIteratorOptions
	if rowsMax < 100 {
		opt.PrefetchSize = int(rowsMax)
	}
	it := txn.NewIterator(opt)
	for it.Seek(putKey(room[:], from)); it.Valid(); it.Next() {
		item := it.Item()
		must(item.Value(func(value []byte) error {
			check(len(value) == b.valueLen && (rows > 0 || binary.LittleEndian.Uint64(value) == keyNumber(item.Key())),
				"a row has another's value")
			return nil
		}))
		rows++
		if rows == rowsMax {
			break
		}
	}
	it.Close()
	txn.Discard()
	return rows
}

func (b *bench) scanAll(reverse bool) (rows uint64) {
	sum := uint64(0)
	txn := b.db.NewTransaction(false)
	opt := badger.DefaultIteratorOptions
	opt.Reverse = reverse
	it := txn.NewIterator(opt)
	for it.Rewind(); it.Valid(); it.Next() {
		must(it.Item().Value(func(value []byte) error {
			sum += binary.LittleEndian.Uint64(value)
			return nil
		}))
		rows++
	}
	it.Close()
	txn.Discard()
	check(sum != 1, "the rows do not add up")
	return rows
}

func (b *bench) warm() {
	check(b.scanAll(false) == b.keys, "rows are missing")
	for j := uint64(0); j < b.keys/20; j++ {
		b.get(mix(j+77) % b.keys)
	}
}

// ---- workloads

func (b *bench) fill(shuffled bool) {
	w := newWriter(b)
	b.measureStart()
	for j := uint64(0); j < b.keys; j++ {
		i := j
		if shuffled {
			i = shuffle(j, b.keys)
		}
		w.put(i, 0)
	}
	w.flush()
	b.done = b.keys
	b.measureEnd(true)
}

func (b *bench) fillsync() {
	each := b.ops / uint64(b.nTh)
	b.lat = make([]uint32, each*uint64(b.nTh))
	var wait sync.WaitGroup
	b.measureStart()
	for t := 0; t < b.nTh; t++ {
		wait.Add(1)
		go func(first uint64) {
			defer wait.Done()
			w := newWriter(b)
			for j := uint64(0); j < each; j++ {
				start := time.Now()
				w.put(shuffle(first+j, b.keys), 0)
				w.flush()
				b.lat[first+j] = uint32(time.Since(start).Nanoseconds())
			}
		}(uint64(t) * each)
	}
	wait.Wait()
	b.done = each * uint64(b.nTh)
	b.measureEnd(false)
}

func (b *bench) overwrite() {
	w := newWriter(b)
	b.measureStart()
	for j := uint64(0); j < b.ops; j++ {
		w.put(mix(j+5)%b.keys, j+1)
	}
	w.flush()
	b.done = b.ops
	b.measureEnd(true)
}

func (b *bench) readrandom() {
	b.warm()
	b.measureStart()
	for j := uint64(0); j < b.ops; j++ {
		b.get(mix(j+1) % b.keys)
	}
	b.done = b.ops
	b.measureEnd(true)
}

func (b *bench) readmissing() {
	var room [keyLen]byte
	b.warm()
	b.measureStart()
	for j := uint64(0); j < b.ops; j++ {
		txn := b.db.NewTransaction(false)
		_, err := txn.Get(putMissing(room[:], mix(j+2)%b.keys))
		check(err == badger.ErrKeyNotFound, "a key that is not")
		txn.Discard()
	}
	b.done = b.ops
	b.measureEnd(true)
}

func (b *bench) seekrandom() {
	b.warm()
	b.measureStart()
	for j := uint64(0); j < b.ops; j++ {
		b.scanSome(mix(j+3)%b.keys, seekNexts+1)
	}
	b.done = b.ops
	b.measureEnd(true)
}

func (b *bench) scan(reverse bool) {
	b.warm()
	b.measureStart()
	for b.done < b.ops || b.done == 0 {
		b.done += b.scanAll(reverse)
	}
	b.measureEnd(true)
}

func (b *bench) readwhilewriting() {
	b.warm()
	var stop int32
	written := uint64(0)
	var wait sync.WaitGroup
	wait.Add(1)
	go func() {
		defer wait.Done()
		w := newWriter(b)
		start := time.Now()
		for atomic.LoadInt32(&stop) == 0 {
			for due := uint64(time.Since(start).Seconds() * writerRate); written < due; written++ {
				w.put(mix(written+9)%b.keys, written+1)
			}
			time.Sleep(500 * time.Microsecond)
		}
		w.flush()
	}()
	b.lat = make([]uint32, b.ops)
	b.measureStart()
	for j := uint64(0); j < b.ops; j++ {
		start := time.Now()
		b.get(mix(j+4) % b.keys)
		b.lat[j] = uint32(time.Since(start).Nanoseconds())
	}
	b.done = b.ops
	b.measureEnd(false)
	atomic.StoreInt32(&stop, 1)
	wait.Wait()
	b.extra["beside_writes"] = written
}

func (b *bench) ycsb(update, scan, insert uint64) {
	z := newZipf(b.keys)
	w := newWriter(b)
	inserted, rows := uint64(0), uint64(0)
	b.warm()
	b.measureStart()
	for j := uint64(0); j < b.ops; j++ {
		kind, at := mix(j*3+11)%100, z.key(mix(j*3+12))
		switch {
		case kind < update:
			w.put(at, j+1)
		case kind < update+insert:
			w.put(b.keys+inserted, 0)
			inserted++
		case kind < update+insert+scan:
			rows += b.scanSome(at, 1+mix(j*3+13)%scanRowsMax)
		default:
			b.get(at)
		}
	}
	b.done = b.ops
	b.measureEnd(true)
	b.extra["rows"] = rows
}

func (b *bench) metricsload() {
	w := newWriter(b)
	bytes := uint64(0)
	b.measureStart()
	for i := uint64(0); i < b.keys; i++ {
		key, value := w.slot()
		length := metricValueLen(i)
		must(w.txn.Set(putMetricKey(key, i%metricSeries, i/metricSeries), putValue(value, i, 0, length)))
		bytes += uint64(keyLen + length)
		w.step()
	}
	w.flush()
	b.done = b.keys
	b.measureEnd(true)
	b.extra["user_bytes"] = bytes
}

func (b *bench) metricsScanOne(series, from uint64) (rows uint64) {
	var lower, upper [keyLen]byte
	putMetricKey(lower[:], series, from)
	putMetricKey(upper[:], series, math.MaxUint32)
	txn := b.db.NewTransaction(false)
	opt := badger.DefaultIteratorOptions
	opt.Prefix = lower[:8]
	it := txn.NewIterator(opt)
	for it.Seek(lower[:]); it.Valid() && string(it.Item().Key()) < string(upper[:]); it.Next() {
		must(it.Item().Value(func(value []byte) error {
			check(binary.LittleEndian.Uint64(value)%metricSeries == series, "a row of another series")
			return nil
		}))
		rows++
	}
	it.Close()
	txn.Discard()
	return rows
}

func (b *bench) metricsscan() {
	steps := b.keys / metricSeries
	from := uint64(0)
	if steps > metricScanRows {
		from = steps - metricScanRows
	}
	for s := uint64(0); s < metricSeries; s++ {
		check(b.metricsScanOne(s, from) == steps-from, "rows are missing")
	}
	b.measureStart()
	for j := uint64(0); j < b.ops; j++ {
		b.metricsScanOne(mix(j+6)%metricSeries, from)
	}
	b.done = b.ops
	b.measureEnd(true)
}

func (b *bench) deletehalf() {
	w := newWriter(b)
	before := dirBytes(b.dir)
	b.measureStart()
	for j := uint64(0); j < b.keys; j++ {
		if i := shuffle(j, b.keys); i%2 == 0 {
			w.del(i)
		}
	}
	w.flush()
	b.done = b.keys / 2
	b.measureEnd(false)
	after := dirBytes(b.dir)
	quiet, _, quietCPU := waitQuiet(b.settle)
	b.settledCPU = quietCPU - b.cpu0
	settled := dirBytes(b.dir)
	check(b.scanAll(false) >= b.keys/2, "rows that were not deleted are missing")
	b.extra["disk_before"], b.extra["disk_after"], b.extra["disk_settled"] = before, after, settled
	b.extra["live_bytes"] = (b.keys - b.keys/2) * uint64(keyLen+b.valueLen)
	b.extra["quiet"] = quiet
}

func open(dir string, cacheMB, memtableMB int, syncWrites bool) *badger.DB {
	opt := badger.DefaultOptions(dir).WithLogger(nil).WithSyncWrites(syncWrites).WithCompression(options.Snappy).
		WithBlockCacheSize(int64(cacheMB) << 20).WithMaxTableSize(int64(memtableMB) << 20)
	db, err := badger.Open(opt)
	must(err)
	return db
}

func main() {
	var b bench
	b.extra = map[string]interface{}{}
	flag.String("store", "badger", "")
	workload := flag.String("workload", "", "")
	flag.StringVar(&b.dir, "dir", "", "")
	flag.Uint64Var(&b.keys, "keys", 1000000, "")
	flag.Uint64Var(&b.ops, "ops", 0, "")
	flag.IntVar(&b.valueLen, "value", 100, "")
	flag.IntVar(&b.batch, "batch", 1, "")
	flag.IntVar(&b.nTh, "threads", 1, "")
	cacheMB := flag.Int("cache-mb", 256, "")
	memtableMB := flag.Int("memtable-mb", 64, "")
	settle := flag.Int("settle", 30, "")
	flag.Parse()
	if b.ops == 0 {
		b.ops = b.keys
	}
	b.settle = time.Duration(*settle) * time.Second
	run, ok := map[string]func(){
		"fillseq": func() { b.fill(false) }, "fillrandom": func() { b.fill(true) }, "fillsync": b.fillsync,
		"overwrite": b.overwrite, "readrandom": b.readrandom, "readmissing": b.readmissing, "seekrandom": b.seekrandom,
		"scanforward": func() { b.scan(false) }, "scanreverse": func() { b.scan(true) },
		"readwhilewriting": b.readwhilewriting, "ycsba": func() { b.ycsb(50, 0, 0) }, "ycsbb": func() { b.ycsb(5, 0, 0) },
		"ycsbc": func() { b.ycsb(0, 0, 0) }, "ycsbe": func() { b.ycsb(0, 95, 5) }, "metricsload": b.metricsload,
		"metricsscan": b.metricsscan, "deletehalf": b.deletehalf,
		"open": func() {
			b.extra["rss_open_kb"] = procNumber("/proc/self/status", "VmRSS:")
			b.get(b.keys / 2)
			b.done = 1
		},
	}[*workload]
	check(ok && b.dir != "", "usage: --workload NAME --dir DIR [...]")
	start := time.Now()
	b.db = open(b.dir, *cacheMB, *memtableMB, *workload == "fillsync")
	if *workload == "open" {
		b.extra["open_ms"] = time.Since(start).Seconds() * 1e3
	}
	run()
	start = time.Now()
	must(b.db.Close())
	b.extra["close_s"] = time.Since(start).Seconds()
	report(&b, *workload, *cacheMB)
}

func report(b *bench, workload string, cacheMB int) {
	var u syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	out := b.extra
	ops := math.Max(float64(b.done), 1)
	out["workload"], out["store"], out["note"], out["keys"], out["value"] = workload, "badger", "", b.keys, b.valueLen
	out["batch"], out["threads"], out["cache_mb"], out["ops"], out["wall_s"] = b.batch, b.nTh, cacheMB, b.done, b.wall
	out["cpu_us_op"], out["settled_us_op"], out["settled_s"] = b.cpu/ops*1e6, b.settledCPU/ops*1e6, b.settled
	if b.wall > 0 {
		out["ops_s"] = float64(b.done) / b.wall
	}
	if n := len(b.lat); n > 0 {
		sort.Slice(b.lat, func(i, j int) bool { return b.lat[i] < b.lat[j] })
		out["p50_us"], out["p99_us"] = float64(b.lat[n/2])/1e3, float64(b.lat[n*99/100])/1e3
	}
	out["peak_rss_mb"], out["written_bytes"], out["disk_bytes"] = float64(u.Maxrss)/1024, b.written, dirBytes(b.dir)
	line, err := json.Marshal(out)
	must(err)
	fmt.Println(string(line))
}
