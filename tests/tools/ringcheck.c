// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ringcheck - a consumer of a group's ring that checks what it is given.
 *
 * It stands where the daemon stands: opens the group, maps the ring, says that
 * the hub takes the stream, consumes and acknowledges.  Each record is held
 * against the ABI (libcheck), applied to the volumes' replica files, and with
 * --dependent held against the dependent-writes invariant (libdep).  A sample
 * of the records is read again just before its acknowledgement: slot and
 * payload must not have changed by then.
 *
 * Prints "name value" lines.  Exit status: 0 nothing found, 1 the stream broke
 * a promise, 2 the tool could not do its work, 3 --timeout was over.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "libcheck.h"
#include "libring.h"
#include "libtest.h"

enum ack_mode { ACK_EVERY, ACK_RANDOM, ACK_NEVER };

struct sample {
	uint64_t seq;
	struct repagent_slot slot;
	uint32_t crc;
};

static struct {
	enum ack_mode ack;
	uint64_t ack_every;
	uint64_t stop_after_idle;	/* ms */
	uint64_t until_seq;
	uint64_t rate;			/* records a second */
	uint64_t sample;
	uint64_t flap;			/* ms */
	uint64_t flaps;
	uint64_t timeout;		/* s */
	uint64_t seed;
	bool drain;
	bool dump;
	bool no_connect;
	bool spin;
	int hub_reason;			/* -1: connected */
	const char *state;
	const char *ready;
	const char *checkpoint;
	uint64_t verify_sector;
	uint64_t verify_sectors;
} opt = {
	.ack = ACK_EVERY,
	.ack_every = 64,
	.sample = 8,
	.timeout = 600,
	.seed = 1,
	.hub_reason = -1,
};

static const char usage[] =
"usage: ringcheck [OPTION]... GROUP\n"
"\n"
"  --replica VOLUME=FILE  apply the volume's records to FILE (may be repeated)\n"
"  --ack every:N|random|never\n"
"                         when to acknowledge; default: every:64, and when idle\n"
"  --dependent            check depwriter's blocks in every consistent prefix\n"
"  --rate N               consume at most N records a second\n"
"  --sample N             read one record of N twice; default: 8\n"
"  --spin                 do not sleep for the next record, but look again and again\n"
"  --no-connect           do not tell the kernel anything of the hub\n"
"  --hub REASON           say that the hub is not connected, and why: none,\n"
"                         hub-refused, hub-full, fenced, paused\n"
"  --flap MS:N            say N times, every MS: the hub refuses, the hub takes it\n"
"  --verify SECTOR:COUNT  have that range of the one volume read into the stream, hold\n"
"                         it against the replica, and end\n"
"  --checkpoint LABEL     emit a checkpoint at the start\n"
"  --state FILE           begin where FILE says, and leave FILE for the next\n"
"  --ready FILE           create FILE once the ring is open\n"
"  --seed N               of --ack random\n"
"  --dump                 print every record\n"
"\n"
"It ends at SIGTERM or SIGINT, or with:\n"
"  --stop-after-idle MS   all consumed, all volumes CLEAN, no record for MS\n"
"  --drain                all consumed that was in the ring at the start\n"
"  --until-seq SEQ        record SEQ consumed\n"
"  --timeout SECONDS      with exit status 3; default: 600\n";

static struct ring ring;
static struct checker checker;
static struct rng rng;

static struct sample *samples;
static size_t nr_samples, first_sample, max_samples;
static uint64_t sampled, rechecked, acks, max_unacked, flaps, verified;
static uint64_t acked, acked_end;

static int lookup(void *ctx, uint16_t id, char *name, uint64_t *sectors)
{
	struct repagent_volume_info v;

	(void)ctx;
	for (unsigned int i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		if (ring_volume(&ring, i, &v) < 0 || v.id != id)
			continue;
		memcpy(name, v.name, sizeof(v.name));
		name[REPAGENT_NAME_MAX] = '\0';
		*sectors = v.sectors;
		return 0;
	}
	return -ENOENT;
}

/* From the end: if the payload is still being copied, that is where it lacks. */
static uint32_t record_crc(const struct repagent_slot *s)
{
	uint32_t crc = crc32c(0, s, sizeof(*s)), left = s->len, n;

	for (; left; left -= n) {
		n = left < 4096 ? left : 4096;
		crc = crc32c(crc, ring.payload + s->pos + left - n, n);
	}
	return crc;
}

static void sample_add(const struct repagent_slot *s)
{
	if (!opt.sample || checker.next_seq % opt.sample ||
	    s->pos >= ring.payload_size || s->len > ring.payload_size)
		return;
	if (first_sample + nr_samples == max_samples) {
		if (first_sample > max_samples / 2) {
			memmove(samples, samples + first_sample, nr_samples * sizeof(*samples));
			first_sample = 0;
		} else {
			max_samples = max_samples ? max_samples * 2 : 1024;
			samples = realloc(samples, max_samples * sizeof(*samples));
			if (!samples)
				die("out of memory");
		}
	}
	samples[first_sample + nr_samples++] = (struct sample){
		.seq = s->commit >> REPAGENT_SLOT_SHIFT,
		.slot = *s,
		.crc = record_crc(s),
	};
	sampled++;
}

static void samples_recheck(uint64_t upto)
{
	while (nr_samples && samples[first_sample].seq <= upto) {
		const struct sample *m = &samples[first_sample];
		const struct repagent_slot *now = ring_slot(&ring, m->seq);

		if (memcmp(now, &m->slot, sizeof(*now)))
			check_error(&checker, "the slot of the unacknowledged %" PRIu64 " changed",
				    m->seq);
		else if (record_crc(now) != m->crc)
			check_error(&checker, "the payload of the unacknowledged %" PRIu64 " changed",
				    m->seq);
		rechecked++;
		first_sample++;
		nr_samples--;
	}
}

static void acknowledge(void)
{
	uint64_t upto = checker.next_seq - 1;
	int ret;

	if (!checker.begun || upto <= acked)
		return;
	samples_recheck(upto);
	ret = ring_ack(&ring, upto);
	if (ret < 0)
		check_error(&checker, "ACK(%" PRIu64 ") failed: %s", upto, strerror(-ret));
	acked = upto;
	acked_end = checker.payload_end;
	acks++;
}

static void dump(const struct repagent_slot *s)
{
	printf("%" PRIu64 "%s %s flags=%u volume=%u aux=%d sector=%" PRIu64 "+%" PRIu64
	       " pos=%" PRIu64 " len=%u end=%" PRIu64 "\n",
	       (uint64_t)(s->commit >> REPAGENT_SLOT_SHIFT),
	       (s->commit & 0xff) == REPAGENT_SLOT_VOID ? " void" : "",
	       s->type < REPAGENT_NR_TYPES ? check_type_names[s->type] : "?", s->flags,
	       s->volume, s->aux, (uint64_t)s->sector, (uint64_t)s->nr_sectors,
	       (uint64_t)s->pos, s->len, (uint64_t)s->end);
}

/* The range that --verify asked for has come: is it what the replica has? */
static void check_verify(const struct repagent_slot *s)
{
	static uint8_t buf[REPAGENT_MAX_VERIFY];
	const struct check_volume *v = &checker.volumes[0];

	if (s->type != REPAGENT_REC_VERIFY || !opt.verify_sectors ||
	    s->sector != opt.verify_sector || s->nr_sectors != opt.verify_sectors)
		return;
	if (s->len > sizeof(buf) || pread(v->replica, buf, s->len, (off_t)(s->sector * SECTOR)) != s->len)
		die("the replica lacks the range to be verified");
	if (memcmp(buf, ring.payload + s->pos, s->len))
		check_error(&checker, "VERIFY has another content than the replica");
	verified++;
	stop = 1;
}

/* Ask for it, again and again: the kernel drops it where there is no room when its turn comes. */
static void ask_verify(uint64_t now)
{
	struct repagent_emit emit = {
		.type = REPAGENT_REC_VERIFY,
		.sector = opt.verify_sector,
		.nr_sectors = opt.verify_sectors,
	};
	struct repagent_volume_info v;
	static uint64_t asked;

	if (!opt.verify_sectors || now - asked < 50000000)
		return;
	if (ring_volume(&ring, 0, &v) < 0)
		die("--verify: there is no volume");
	emit.volume = v.id;
	if (!ioctl(ring.fd, REPAGENT_IOC_EMIT, &emit))
		asked = now;
	else if (errno != EAGAIN && errno != ENOSPC)
		die("--verify: EMIT: %s", strerror(errno));
}

static bool is_there(uint64_t commit, uint64_t seq)
{
	return commit >> REPAGENT_SLOT_SHIFT >= seq && (commit & 0xff) != REPAGENT_SLOT_BUSY;
}

/* Consumes the next record; false when there is none yet. */
static bool consume(uint64_t next)
{
	uint64_t commit = ring_commit(&ring, next);
	uint64_t seq = commit >> REPAGENT_SLOT_SHIFT;
	struct repagent_slot s;

	if (!is_there(commit, next))
		return false;
	if (seq > next) {
		check_error(&checker, "its slot was taken by %" PRIu64 " before it was acknowledged",
			    seq);
		stop = 1;
		return false;
	}
	if (ring_head(&ring) <= next)
		check_error(&checker, "it is ready, and the head is %" PRIu64, ring_head(&ring));

	s = *ring_slot(&ring, next);
	if (opt.dump)
		dump(&s);
	if (!checker.begun && !acked_end)
		acked_end = next == 1 ? 0 : s.end - s.len;
	sample_add(&s);
	check_record(&checker, &s, ring.payload + s.pos % ring.payload_size, acked_end);
	if ((commit & 0xff) == REPAGENT_SLOT_READY)
		check_verify(&s);
	if (next - acked > max_unacked)
		max_unacked = next - acked;
	return true;
}

/* Everything there is was consumed: is the group as its replicas say? */
static bool all_clean(void)
{
	struct repagent_volume_info v;
	struct repagent_info info;

	if (ring_info(&ring, &info) < 0 || info.capture != REPAGENT_CAPTURE_STREAM ||
	    info.head != checker.next_seq)
		return false;
	for (unsigned int i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		if (!ring_volume(&ring, i, &v) && v.active &&
		    v.image != REPAGENT_IMAGE_CLEAN)
			return false;
	return true;
}

static void state_save(void)
{
	FILE *f = fopen(opt.state, "w");

	if (!f)
		die("%s: %s", opt.state, strerror(errno));
	fprintf(f, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %d\n", ring.incarnation, checker.next_seq,
		checker.payload_end, checker.phase);
	for (unsigned int i = 0; i < checker.nr_volumes; i++) {
		const struct check_volume *v = &checker.volumes[i];

		if (v->id)
			fprintf(f, "%s %u %" PRIu64 " %d %d %d\n", v->name, v->id, v->sectors,
				v->torn, v->resync, v->removed);
	}
	if (fclose(f))
		die("%s: %s", opt.state, strerror(errno));
}

static void state_load(void)
{
	uint64_t incarnation, next, end, sectors;
	int phase, torn, resync, removed;
	FILE *f = fopen(opt.state, "r");
	unsigned int id;
	char name[64];

	if (!f)
		return;
	if (fscanf(f, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %d", &incarnation, &next, &end,
		   &phase) != 4)
		die("%s is no state file", opt.state);
	if (incarnation != ring.incarnation || next != ring.acked + 1)
		goto out;
	checker.begun = true;
	checker.next_seq = next;
	checker.payload_end = end;
	checker.phase = phase;
	acked_end = end;
	while (fscanf(f, "%63s %u %" SCNu64 " %d %d %d", name, &id, &sectors, &torn, &resync,
		      &removed) == 6) {
		struct check_volume *v = NULL;

		for (unsigned int i = 0; i < checker.nr_volumes; i++)
			if (!strcmp(checker.volumes[i].name, name))
				v = &checker.volumes[i];
		if (!v) {
			check_replica(&checker, name, -1);
			v = &checker.volumes[checker.nr_volumes - 1];
		}
		v->id = (uint16_t)id;
		v->sectors = sectors;
		v->torn = torn;
		v->resync = resync;
		v->removed = removed;
	}

	/* What the dependent writers had reached stands in the replicas. */
	for (unsigned int i = 0; checker.dependent && i < checker.nr_volumes; i++) {
		static uint8_t buf[256 * DEP_BLOCK];
		ssize_t n;

		for (off_t at = 0; checker.volumes[i].replica >= 0; at += n) {
			n = pread(checker.volumes[i].replica, buf, sizeof(buf), at);
			if (n <= 0)
				break;
			dep_feed(&checker.dep, buf, (size_t)n, (uint64_t)at, false);
		}
	}
out:
	fclose(f);
}

static void print_summary(void)
{
	uint64_t total = checker.voids;

	for (unsigned int i = 1; i < REPAGENT_NR_TYPES; i++) {
		printf("%s %" PRIu64 "\n", check_type_names[i], checker.records[i]);
		total += checker.records[i];
	}
	for (unsigned int i = 1; i < REPAGENT_NR_REASONS; i++)
		if (checker.reasons[i])
			printf("gap_%s %" PRIu64 "\n", check_reason_names[i], checker.reasons[i]);
	printf("void %" PRIu64 "\n", checker.voids);
	printf("records %" PRIu64 "\n", total);
	printf("fua %" PRIu64 "\n", checker.fua);
	printf("write_bytes %" PRIu64 "\n", checker.write_bytes);
	printf("zero_bytes %" PRIu64 "\n", checker.zero_bytes);
	printf("resync_bytes %" PRIu64 "\n", checker.resync_bytes);
	printf("consistent_prefixes %" PRIu64 "\n", checker.consistent);
	printf("sampled %" PRIu64 "\n", sampled);
	printf("rechecked %" PRIu64 "\n", rechecked);
	printf("acks %" PRIu64 "\n", acks);
	printf("acked %" PRIu64 "\n", acked);
	printf("last %" PRIu64 "\n", checker.begun ? checker.next_seq - 1 : ring.acked);
	printf("max_unacked %" PRIu64 "\n", max_unacked);
	printf("verified %" PRIu64 "\n", verified);
	printf("flaps %" PRIu64 "\n", flaps);
	printf("dep_blocks %" PRIu64 "\n", checker.dep.blocks);
	printf("dep_steps %" PRIu64 "\n", checker.dep.steps);
	printf("dep_images %" PRIu64 "\n", checker.dep.images);
	printf("label %s\n", checker.label[0] ? checker.label : "-");
	printf("errors %" PRIu64 "\n", checker.errors);
}

/* Refuses, or takes the stream again, when it is time to. */
static void flap(uint64_t begin, uint64_t now)
{
	uint64_t n = (now - begin) / (opt.flap * 500000);	/* half flaps */
	static uint64_t done;
	int ret;

	if (n <= done || done == 2 * opt.flaps)
		return;
	ret = done % 2 ? ring_hub(&ring, true, REPAGENT_REASON_NONE) :
			 ring_hub(&ring, false, REPAGENT_REASON_HUB_REFUSED);
	if (ret < 0)
		die("HUB: %s", strerror(-ret));
	done++;
	flaps = done / 2;
}

static void run(void)
{
	uint64_t begin = now_ns(), last_record = begin, next_ack = opt.ack_every;
	uint64_t next = checker.begun ? checker.next_seq : ring.acked + 1;
	uint64_t consumed = 0, drain_to = 0;
	struct repagent_info info;

	if (ring_info(&ring, &info) < 0)
		die("INFO: %s", strerror(errno));
	if (opt.drain)
		drain_to = info.head - 1;

	while (!stop) {
		uint64_t now = now_ns();

		if (now - begin > opt.timeout * 1000000000ull) {
			fprintf(stderr, "timeout: next record %" PRIu64 ", head %" PRIu64 "\n",
				next, ring_head(&ring));
			print_summary();
			exit(EXIT_TIMEOUT);
		}
		if (opt.flap)
			flap(begin, now);
		ask_verify(now);
		if (opt.until_seq && next > opt.until_seq)
			break;
		if (opt.drain && next > drain_to)
			break;
		if (opt.rate && consumed * 1000000000ull / opt.rate > now - begin) {
			struct timespec ms = { .tv_nsec = 1000000 };

			nanosleep(&ms, NULL);
			continue;
		}
		if (consume(next)) {
			next++;
			consumed++;
			last_record = now;
			if (opt.ack != ACK_NEVER && --next_ack == 0) {
				acknowledge();
				next_ack = opt.ack_every;
				if (opt.ack == ACK_RANDOM)
					next_ack = 1 + rng_below(&rng, 2 * opt.ack_every);
			}
			continue;
		}
		if (opt.ack != ACK_NEVER && (opt.ack != ACK_RANDOM || !rng_below(&rng, 4)))
			acknowledge();
		if (opt.stop_after_idle && now - last_record > opt.stop_after_idle * 1000000 &&
		    all_clean())
			break;
		/* Without a system call in between: to be there in the moment when it is published. */
		for (int i = 0; opt.spin && i < 1000000 && !is_there(ring_commit(&ring, next), next); i++)
			;
		if (ring_wait(&ring, next, info.events, opt.spin ? 0 : opt.flap ? 2 : 20) < 0)
			die("WAIT: %s", strerror(errno));
		if (ring_info(&ring, &info) < 0)
			die("INFO: %s", strerror(errno));
	}
	if (opt.ack != ACK_NEVER)
		acknowledge();
	else
		samples_recheck(UINT64_MAX);
}

static void parse_reason(char *name)
{
	for (int i = 0; i < REPAGENT_NR_REASONS; i++) {
		if (!strcmp(check_reason_names[i], name)) {
			opt.hub_reason = i;
			return;
		}
	}
	die("unknown reason '%s'", name);
}

static void parse_ack(char *arg)
{
	if (!strcmp(arg, "never")) {
		opt.ack = ACK_NEVER;
	} else if (!strcmp(arg, "random")) {
		opt.ack = ACK_RANDOM;
	} else if (!strncmp(arg, "every:", 6)) {
		opt.ack_every = parse_number(arg + 6);
		if (!opt.ack_every)
			die("--ack every:0 makes no sense");
	} else {
		die("--ack takes every:N, random or never");
	}
}

static void parse_pair(const char *option, char *arg, uint64_t *one, uint64_t *two)
{
	char *colon = strchr(arg, ':');

	if (!colon)
		die("%s takes two numbers with a colon between them", option);
	*colon++ = '\0';
	*one = parse_number(arg);
	*two = parse_number(colon);
}

static void parse_replica(char *arg)
{
	char *file = strchr(arg, '=');
	int fd;

	if (!file)
		die("--replica takes VOLUME=FILE");
	*file++ = '\0';
	fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		die("%s: %s", file, strerror(errno));
	check_replica(&checker, arg, fd);
}

static void parse_flap(char *arg)
{
	parse_pair("--flap", arg, &opt.flap, &opt.flaps);
	if (!opt.flap)
		die("--flap 0 makes no sense");
}

static void parse_verify(char *arg)
{
	parse_pair("--verify", arg, &opt.verify_sector, &opt.verify_sectors);
	if (!opt.verify_sectors || opt.verify_sectors > REPAGENT_MAX_VERIFY / SECTOR)
		die("--verify takes 1 to %u sectors", REPAGENT_MAX_VERIFY / SECTOR);
}

int main(int argc, char **argv)
{
	static const struct tool_option options[] = {
		{ "replica", OPT_CALL, { .call = parse_replica } },
		{ "ack", OPT_CALL, { .call = parse_ack } },
		{ "dependent", OPT_FLAG, { &checker.dependent } },
		{ "rate", OPT_NUMBER, { &opt.rate } },
		{ "sample", OPT_NUMBER, { &opt.sample } },
		{ "spin", OPT_FLAG, { &opt.spin } },
		{ "no-connect", OPT_FLAG, { &opt.no_connect } },
		{ "hub", OPT_CALL, { .call = parse_reason } },
		{ "flap", OPT_CALL, { .call = parse_flap } },
		{ "verify", OPT_CALL, { .call = parse_verify } },
		{ "checkpoint", OPT_TEXT, { &opt.checkpoint } },
		{ "state", OPT_TEXT, { &opt.state } },
		{ "ready", OPT_TEXT, { &opt.ready } },
		{ "seed", OPT_NUMBER, { &opt.seed } },
		{ "dump", OPT_FLAG, { &opt.dump } },
		{ "stop-after-idle", OPT_NUMBER, { &opt.stop_after_idle } },
		{ "drain", OPT_FLAG, { &opt.drain } },
		{ "until-seq", OPT_NUMBER, { &opt.until_seq } },
		{ "timeout", OPT_NUMBER, { &opt.timeout } },
		{ }
	};
	const char *group;
	uint64_t seq;
	int ret;

	check_init(&checker);
	group = *parse_options(argc, argv, options, usage, 1);
	rng_seed(&rng, opt.seed);
	catch_stop();
	setlinebuf(stdout);

	ring_must_open(&ring, group);
	checker.payload_size = ring.payload_size;
	checker.lookup = lookup;
	acked = ring.acked;
	if (opt.state)
		state_load();
	if (!opt.no_connect) {
		ret = ring_hub(&ring, opt.hub_reason < 0,
			       opt.hub_reason < 0 ? REPAGENT_REASON_NONE :
						    (enum repagent_reason)opt.hub_reason);
		if (ret < 0)
			die("HUB: %s", strerror(-ret));
	}
	if (opt.checkpoint) {
		ret = ring_checkpoint(&ring, opt.checkpoint, &seq);
		if (ret < 0)
			die("EMIT: %s", strerror(-ret));
		printf("checkpoint_seq %" PRIu64 "\n", seq);
	}
	if (opt.ready)
		touch(opt.ready);

	run();
	if (opt.state)
		state_save();
	print_summary();
	return checker.errors ? EXIT_BAD : EXIT_GOOD;
}
