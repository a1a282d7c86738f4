// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device-mapper target "repagent": continuous replication of a block device.
 *
 * Write what you ship: the payload of a write is copied once, into the group's
 * ring, and what the origin is given is a bounce bio of those very pages. So
 * disk and stream are bit for bit the same even if the writer changes its buffer
 * while the write is on its way.
 *
 *   map()	take the range in the interval set (or queue: volume_work() goes on)
 *		reserve; copy; submit the bounce bio	STREAM with room
 *		mark dirty; submit the bio itself	else
 *   end_io()	commit the record; give the range back; the writer hears of it
 *
 * Reads and flushes pass through. map() never sleeps and never waits for the
 * daemon or the hub.
 *
 * Documentation/target.md describes the table line, the status line and the
 * messages.
 */
#include <linux/ctype.h>
#include <linux/module.h>
#include <linux/slab.h>
#include "repagent.h"
#include "compat.h"

#define REP_INLINE_VECS	4

/* What becomes of a bio; per-bio data of dm. */
struct rep_io {
	enum { IO_PASS, IO_FLUSH, IO_WRITE } kind;
	bool			captured;	/* rec is to be committed */
	bool			bounced;	/* a bounce bio is what was submitted */
	bool			again;		/* it wanted to sleep: the worker submits it */
	u8			type;		/* of the record */
	unsigned int		len;		/* bytes of payload */
	sector_t		sector;
	sector_t		nr_sectors;
	struct rep_target	*t;
	struct rep_range	range;
	struct rep_record	rec;
	struct bio		*bounce;
	struct bio		inline_bounce;
	struct bio_vec		inline_vecs[REP_INLINE_VECS];
};

static struct bio *bio_of(struct rep_io *io)
{
	return dm_bio_from_per_bio_data(io, sizeof(*io));
}

/* ---- construction -------------------------------------------------------- */

/* The word at fault goes to the log by itself: what dm shows is a constant. */
#define ctr_error(ti, text, fmt, ...) ({	\
	DMERR(fmt, ##__VA_ARGS__);		\
	(ti)->error = (text);			\
	-EINVAL;				\
})

#define REP_FEATURE_WORDS_MAX	10

static int parse_ring(struct rep_target *t, const char *value)
{
	unsigned int n;

	if (kstrtouint(value, 10, &n) || n < 1 || n > 16384)
		return -EINVAL;
	t->ring_mib = n;
	return 0;
}

static int parse_region(struct rep_target *t, const char *value)
{
	unsigned int n;

	if (kstrtouint(value, 10, &n) || n < 64 || n > 65536 || !is_power_of_2(n))
		return -EINVAL;
	t->region_kib = n;
	return 0;
}

static int parse_discard(struct rep_target *t, const char *value)
{
	int i = match_string((const char * const []) { "zero", "pass", "ignore" }, 3, value);

	if (i < 0)
		return -EINVAL;
	t->discard = i;
	t->discard_given = true;
	return 0;
}

static int parse_bounce(struct rep_target *t, const char *value)
{
	if (strcmp(value, "on") && strcmp(value, "off"))
		return -EINVAL;
	t->bounce = !strcmp(value, "on");
	return 0;
}

static int parse_meta(struct rep_target *t, const char *value)
{
	t->meta_name = value;
	return 0;
}

static const struct rep_feature {
	const char	*name;
	int		(*parse)(struct rep_target *t, const char *value);
	char		*error;		/* what it expects */
} features[] = {
	{ "meta",	parse_meta,	"meta: expected a block device" },
	{ "ring",	parse_ring,	"ring: expected MiB, a number from 1 to 16384" },
	{ "region",	parse_region,	"region: expected KiB, a power of two from 64 to 65536" },
	{ "discard",	parse_discard,	"discard: expected zero, pass or ignore" },
	{ "bounce",	parse_bounce,	"bounce: expected on or off" },
};

static int parse_features(struct rep_target *t, struct dm_arg_set *as)
{
	struct dm_target *ti = t->ti;
	unsigned int words, i;
	unsigned long given = 0;
	const char *word;

	if (!as->argc)
		return 0;
	word = dm_shift_arg(as);
	if (kstrtouint(word, 10, &words) || words > REP_FEATURE_WORDS_MAX)
		return ctr_error(ti, "expected the number of feature words after <volume>: 0 to 10",
				 "\"%s\": not a number of feature words", word);
	if (as->argc < words)
		return ctr_error(ti, "there are fewer feature words than their number says",
				 "%u feature words: only %u follow", words, as->argc);
	if (as->argc > words)
		return ctr_error(ti, "there are more feature words than their number says",
				 "%u feature words: \"%s\" is one too many", words,
				 as->argv[words]);

	for (; words; words -= 2) {
		const char *name = dm_shift_arg(as), *value;

		for (i = 0; i < ARRAY_SIZE(features); i++)
			if (!strcasecmp(name, features[i].name))
				break;
		if (i == ARRAY_SIZE(features))
			return ctr_error(ti, "unknown feature: expected meta, ring, region, discard or bounce",
					 "feature \"%s\": unknown", name);
		if (words == 1)
			return ctr_error(ti, "the last feature has no value: features are pairs of words",
					 "feature \"%s\": it has no value", name);
		value = dm_shift_arg(as);
		if (given & BIT(i))
			return ctr_error(ti, "a feature is there twice: expected each once",
					 "feature %s: \"%s\" is its second value", name, value);
		given |= BIT(i);
		if (features[i].parse(t, value))
			return ctr_error(ti, features[i].error,
					 "feature %s: \"%s\" is not what it takes", name, value);
	}
	return 0;
}

static int check_origin(struct rep_target *t)
{
	struct block_device *bdev = t->origin->bdev;
	bool zeroes = bdev_write_zeroes_sectors(bdev);

	if (bdev_nr_sectors(bdev) < t->ti->len)
		return ctr_error(t->ti, "the table is longer than the origin device",
				 "length %llu: expected at most the %llu sectors of the origin, %pg",
				 (unsigned long long)t->ti->len,
				 (unsigned long long)bdev_nr_sectors(bdev), bdev);
	if (bdev_is_zoned(bdev))
		return ctr_error(t->ti, "the origin is a zoned device, which is not supported",
				 "origin %pg: a zoned device", bdev);
	if (!t->discard_given)
		t->discard = zeroes ? REP_DISCARD_ZERO : REP_DISCARD_PASS;
	else if (t->discard == REP_DISCARD_ZERO && !zeroes)
		return ctr_error(t->ti, "discard zero: the origin cannot write zeroes; expected pass or ignore",
				 "feature discard: \"zero\" is more than the origin %pg can", bdev);
	return 0;
}

static int check_name(struct dm_target *ti, const char *name, const char *what,
		      char *error)
{
	return rep_name_ok(name) ? 0 : ctr_error(ti, error, "%s \"%s\": not a name", what, name);
}

static int get_meta(struct rep_target *t)
{
	struct dm_target *ti = t->ti;
	const char *name = t->meta_name;
	int err;

	if (!name)
		return 0;
	t->meta_name = NULL;
	err = dm_get_device(ti, name, dm_table_get_mode(ti->table), &t->meta);
	if (err) {
		DMERR("meta \"%s\": cannot be opened: %pe", name, ERR_PTR(err));
		ti->error = "meta: expected a block device that nobody else has open, as a path or major:minor";
		return err;
	}
	if (t->meta->bdev == t->origin->bdev)
		return ctr_error(ti, "meta: the origin itself; expected another device",
				 "meta \"%s\": the origin itself", name);
	if (bdev_logical_block_size(t->meta->bdev) != SECTOR_SIZE)
		return ctr_error(ti, "meta: expected a device with blocks of 512 bytes, which it writes wholly or not at all",
				 "meta \"%s\": it has blocks of %u bytes", name,
				 bdev_logical_block_size(t->meta->bdev));
	return 0;
}

static int repagent_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct dm_arg_set as = { .argc = argc, .argv = argv };
	const char *origin, *group, *name;
	struct rep_target *t;
	int err;

	if (argc < 3)
		return ctr_error(ti, "expected: <origin device> <group> <volume> [<#feature words> <word>...]",
				 "%s after \"%s\"", argc == 2 ? "no volume" :
				 argc ? "no group" : "no origin device",
				 argc ? argv[argc - 1] : "repagent");
	origin = dm_shift_arg(&as);
	group = dm_shift_arg(&as);
	name = dm_shift_arg(&as);
	err = check_name(ti, group, "group",
			 "group: expected 1 to 31 letters, digits, '_', '.', '-', not beginning with '.' or '-'") ?:
	      check_name(ti, name, "volume",
			 "volume: expected 1 to 31 letters, digits, '_', '.', '-', not beginning with '.' or '-'");
	if (err)
		return err;

	t = kzalloc(sizeof(*t), GFP_KERNEL);
	if (!t) {
		ti->error = "no memory for the target";
		return -ENOMEM;
	}
	t->ti = ti;
	t->bounce = true;
	err = parse_features(t, &as);
	if (err)
		goto free;
	err = dm_get_device(ti, origin, dm_table_get_mode(ti->table), &t->origin);
	if (err) {
		DMERR("origin \"%s\": cannot be opened: %pe", origin, ERR_PTR(err));
		ti->error = "origin device: expected a block device that nobody else has open, as a path or major:minor";
		goto free;
	}
	err = check_origin(t);
	if (err)
		goto put;
	err = get_meta(t);
	if (err)
		goto put;
	err = rep_dirty_init(&t->dirty, ti->len);
	if (err == -EFBIG) {
		DMERR("length %llu: more than a volume can have", (unsigned long long)ti->len);
		ti->error = "the volume is too large: expected at most 8 PiB";
		goto put;
	}
	if (err) {
		ti->error = "no memory for the dirty bits";
		goto put;
	}
	err = rep_volume_attach(t, group, name, dm_table_get_md(ti->table));
	if (err)
		goto dirty;
	err = t->meta ? rep_map_new(t) : 0;
	if (err)
		goto detach;

	ti->private = t;
	ti->num_flush_bios = 1;
	ti->num_secure_erase_bios = 0;	/* history would keep the data */
	ti->num_write_zeroes_bios = !!bdev_write_zeroes_sectors(t->origin->bdev);
	ti->num_discard_bios = t->discard != REP_DISCARD_IGNORE;
	ti->discards_supported = t->discard == REP_DISCARD_ZERO;
	ti->accounts_remapped_io = true;
	ti->per_io_data_size = sizeof(struct rep_io);
	return 0;

detach:
	rep_volume_detach(t);
dirty:
	rep_dirty_exit(&t->dirty);
put:
	if (t->meta)
		dm_put_device(ti, t->meta);
	dm_put_device(ti, t->origin);
free:
	kfree(t);
	return err;
}

static void repagent_dtr(struct dm_target *ti)
{
	struct rep_target *t = ti->private;

	rep_volume_detach(t);
	rep_dirty_exit(&t->dirty);
	if (t->meta)
		dm_put_device(ti, t->meta);
	dm_put_device(ti, t->origin);
	kfree(t);
}

/* ---- writes --------------------------------------------------------------- */

static void write_granted(struct rep_range *range);

/* The worker is to go on with a write whose range is taken. */
static void write_punt(struct rep_io *io)
{
	LIST_HEAD(list);

	io->range.granted = write_granted;
	list_add(&io->range.queue, &list);
	rep_volume_queue(io->t->volume, &list);
}

static void bounce_free(struct rep_io *io)
{
	if (io->bounce == &io->inline_bounce)
		bio_uninit(io->bounce);
	else
		bio_put(io->bounce);
}

static void bounce_endio(struct bio *bounce)
{
	struct rep_io *io = bounce->bi_private;
	blk_status_t status = bounce->bi_status;
	bool nowait = bounce->bi_opf & REQ_NOWAIT;
	struct bio *bio = bio_of(io);

	bounce_free(io);
	if (unlikely(nowait && (status == BLK_STS_AGAIN || status == BLK_STS_NOTSUPP))) {
		/* It would have had to sleep, or the origin cannot tell. The data is ours. */
		io->again = true;
		write_punt(io);
		return;
	}
	bio->bi_status = status;
	bio_endio(bio);
}

/* Make the bounce bio of a captured write. NULL only without __GFP_DIRECT_RECLAIM. */
static struct bio *bounce_make(struct rep_io *io, struct bio *bio, gfp_t gfp)
{
	struct rep_ring *r = &io->t->volume->group->ring;
	unsigned int vecs = rep_ring_vecs(r, io->rec.pos, io->len);
	blk_opf_t opf = bio->bi_opf & ~(REQ_POLLED | REQ_ALLOC_CACHE | REQ_DRV);
	struct bio *bounce = &io->inline_bounce;

	if (likely(vecs <= REP_INLINE_VECS)) {
		bio_init(bounce, NULL, io->inline_vecs, REP_INLINE_VECS, opf);
		bounce->bi_bdev = bio->bi_bdev;
		bio_clone_blkg_association(bounce, bio);
	} else {
		bounce = bio_alloc_bioset(bio->bi_bdev, vecs, opf, gfp,
					  &io->t->volume->bounce_bios);
		if (!bounce)
			return NULL;
	}
	bounce->bi_iter.bi_sector = io->sector;
	bounce->bi_ioprio = bio->bi_ioprio;
	rep_bio_copy_hint(bounce, bio);
	bounce->bi_private = io;
	bounce->bi_end_io = bounce_endio;
	rep_ring_fill_bio(r, bounce, io->rec.pos, io->len);
	io->bounce = bounce;
	return bounce;
}

/*
 * The write's range is taken: capture it, or mark it dirty. Returns what to
 * submit with dm_submit_bio_remap(), itself for the bio, or NULL if it waits for the
 * write-intent map, or the worker has it.
 */
static struct bio *write_capture(struct rep_io *io, struct bio *bio, bool may_sleep)
{
	struct rep_volume *v = io->t->volume;
	u8 flags = bio->bi_opf & REQ_FUA ? REPAGENT_REC_FUA : 0;
	struct bio *bounce;

	switch (rep_reserve_write(v, &io->rec, io->type, flags, io->sector, io->nr_sectors,
				  io->len)) {
	case REP_CAPTURED:
		io->captured = true;
		break;
	case REP_TRACKED:
		return bio;
	case REP_NEED_INTENT:
		rep_map_wait(v, &io->range);
		return NULL;
	}
	if (io->len) {
		rep_ring_copy(&v->group->ring, io->rec.pos, bio);
		if (io->t->bounce) {
			io->bounced = true;
			bounce = bounce_make(io, bio, may_sleep ? GFP_NOIO :
					     GFP_NOWAIT | __GFP_NOWARN);
			if (likely(bounce))
				return bounce;
		}
	}
	/*
	 * The record has its place, so this write must not end because it would
	 * have to sleep: the worker can.
	 */
	if (!may_sleep && (io->bounced || (bio->bi_opf & REQ_NOWAIT))) {
		io->again = true;
		write_punt(io);
		return NULL;
	}
	bio->bi_opf &= ~REQ_NOWAIT;
	return bio;
}

/* The worker goes on with a write: its turn has come, or it has to sleep. */
static void write_granted(struct rep_range *range)
{
	struct rep_io *io = container_of(range, struct rep_io, range);
	struct bio *bio = bio_of(io), *submit = bio;

	bio->bi_opf &= ~REQ_NOWAIT;
	if (!io->again)
		submit = write_capture(io, bio, true);
	else if (io->bounced)
		submit = bounce_make(io, bio, GFP_NOIO);
	if (submit)
		dm_submit_bio_remap(bio, submit == bio ? NULL : submit);
}

/*
 * Cut a write so that its record fits into the ring and, but for a wide one
 * that can be had, into one chunk of the interval set.
 */
static void write_cut(struct rep_io *io, struct bio *bio)
{
	unsigned int max = bio_sectors(bio);
	sector_t sector = bio->bi_iter.bi_sector;

	if (io->type == REPAGENT_REC_WRITE)
		max = min(max, io->t->volume->group->ring.max_len >> SECTOR_SHIFT);
	else if (!rep_range_is_wide(sector, max) || !rep_range_widen(&io->range))
		return;
	max = min_t(sector_t, max, REP_SHARD_SECTORS - sector % REP_SHARD_SECTORS);
	if (max < bio_sectors(bio))
		dm_accept_partial_bio(bio, max);
}

/* The bio ends here, and nothing has changed. */
static int map_done(struct rep_io *io, struct bio *bio, blk_status_t status)
{
	io->kind = IO_PASS;
	bio->bi_status = status;
	bio_endio(bio);
	return DM_MAPIO_SUBMITTED;
}

static int map_write(struct rep_target *t, struct bio *bio, struct rep_io *io)
{
	struct bio *submit;

	io->kind = IO_WRITE;
	io->t = t;
	io->captured = io->bounced = io->again = false;
	io->range.wide = NULL;
	io->range.granted = write_granted;
	bio->bi_opf &= ~REQ_POLLED;

	switch (bio_op(bio)) {
	case REQ_OP_WRITE_ZEROES:
		if (!bdev_write_zeroes_sectors(t->origin->bdev))
			return map_done(io, bio, BLK_STS_NOTSUPP);
		io->type = REPAGENT_REC_ZEROES;
		break;
	case REQ_OP_DISCARD:
		if (t->discard == REP_DISCARD_ZERO) {
			/* The origin has unlearned it. A discard is but a hint. */
			if (!bdev_write_zeroes_sectors(t->origin->bdev))
				return map_done(io, bio, BLK_STS_OK);
			bio->bi_opf = (bio->bi_opf & ~REQ_OP_MASK) | REQ_OP_WRITE_ZEROES;
			io->type = REPAGENT_REC_ZEROES;
		} else {
			io->type = REPAGENT_REC_DISCARD;
		}
		break;
	default:
		io->type = REPAGENT_REC_WRITE;
		break;
	}
	write_cut(io, bio);
	io->sector = bio->bi_iter.bi_sector;
	io->nr_sectors = bio_sectors(bio);
	io->len = io->type == REPAGENT_REC_WRITE ? bio->bi_iter.bi_size : 0;

	if (!rep_range_lock(t->volume, &io->range, io->sector, io->nr_sectors))
		return DM_MAPIO_SUBMITTED;
	submit = write_capture(io, bio, false);
	if (submit == bio)
		return DM_MAPIO_REMAPPED;
	if (submit)
		dm_submit_bio_remap(bio, submit);
	return DM_MAPIO_SUBMITTED;
}

static int repagent_map(struct dm_target *ti, struct bio *bio)
{
	struct rep_io *io = dm_per_bio_data(bio, sizeof(*io));
	struct rep_target *t = ti->private;

	bio_set_dev(bio, t->origin->bdev);
	/* The origin's table may have changed beneath us since dm asked it. */
	if ((bio->bi_opf & REQ_NOWAIT) && unlikely(!bdev_nowait(bio->bi_bdev)))
		bio->bi_opf &= ~REQ_NOWAIT;
	io->kind = IO_PASS;
	if (!op_is_write(bio_op(bio)))
		return DM_MAPIO_REMAPPED;
	if (bio_sectors(bio))
		return map_write(t, bio, io);
	if (bio->bi_opf & REQ_PREFLUSH)
		io->kind = IO_FLUSH;
	return DM_MAPIO_REMAPPED;
}

static void write_failed(struct rep_io *io, struct bio *bio, blk_status_t status)
{
	struct rep_target *t = io->t;

	/* With FUA it may have been the flush. */
	if (op_is_flush(bio->bi_opf) && t->map && status != BLK_STS_NOTSUPP)
		rep_map_flush_failed(t->map, blk_status_to_errno(status));
	rep_write_failed(t->volume, io->captured ? &io->rec : NULL, io->sector, io->nr_sectors, status);
}

static int repagent_end_io(struct dm_target *ti, struct bio *bio,
			   blk_status_t *status)
{
	struct rep_io *io = dm_per_bio_data(bio, sizeof(*io));
	struct rep_target *t = ti->private;
	struct rep_volume *v = t->volume;

	switch (io->kind) {
	case IO_PASS:
		break;
	case IO_FLUSH:
		if (!*status)
			rep_emit_flush(v);
		else if (t->map && *status != BLK_STS_AGAIN)
			rep_map_flush_failed(t->map, blk_status_to_errno(*status));
		break;
	case IO_WRITE:
		/* Not captured, BLK_STS_AGAIN is the writer's own affair. */
		if (unlikely(*status && (io->captured || *status != BLK_STS_AGAIN)))
			write_failed(io, bio, *status);
		else if (io->captured)
			rep_commit(v->group, &io->rec, REPAGENT_SLOT_READY);
		rep_range_unlock(v, &io->range);
		break;
	}
	return DM_ENDIO_DONE;
}

/* ---- suspend and resume --------------------------------------------------- */

static void set_stopped(struct rep_volume *v, bool stopped)
{
	spin_lock_irq(&v->group->lock);
	v->stopped = stopped;
	spin_unlock_irq(&v->group->lock);
}

static void repagent_presuspend(struct dm_target *ti)
{
	struct rep_target *t = ti->private;

	set_stopped(t->volume, true);
}

static void repagent_presuspend_undo(struct dm_target *ti)
{
	struct rep_target *t = ti->private;

	set_stopped(t->volume, false);
	rep_resync_kick(t->volume->group);
}

static void repagent_postsuspend(struct dm_target *ti)
{
	rep_volume_suspended(ti->private);
}

static int repagent_preresume(struct dm_target *ti)
{
	rep_volume_activate(ti->private);
	return 0;
}

/* ---- reports -------------------------------------------------------------- */

static const char * const discard_names[] = { "zero", "pass", "ignore" };

/*
 * <group> <volume> <capture> <image> <reason> <ring used>/<ring size>
 * <last seq> <acked seq> <dirty> <resync left> <failed> <map>
 *
 * The reason is the group's while it does not stream, else the volume's.
 */
static void status_info(struct rep_volume *v, char *result, unsigned int maxlen)
{
	struct rep_group *g = v->group;
	struct rep_ring *r = &g->ring;
	enum repagent_capture capture;
	enum repagent_reason reason;
	enum repagent_image image;
	u64 used, head, acked, dirty, left, failed;
	unsigned int sz = 0;
	const char *map;

	spin_lock_irq(&g->lock);
	capture = g->capture;
	image = v->image;
	reason = capture == REPAGENT_CAPTURE_STREAM ? v->reason : g->reason;
	used = r->payload_head - r->payload_tail;
	head = r->head;
	acked = r->acked;
	dirty = rep_dirty_sectors(&v->dirty);
	left = image == REPAGENT_IMAGE_RESYNC ? dirty + v->read_sectors : 0;
	failed = v->failed;
	map = rep_map_status(v->map);
	spin_unlock_irq(&g->lock);

	DMEMIT("%s %s %s %s %s %llu/%llu %llu %llu %llu %llu %llu %s",
	       g->name, v->name, rep_capture_names[capture],
	       rep_image_names[image], rep_reason_names[reason],
	       used >> SECTOR_SHIFT, r->payload_size >> SECTOR_SHIFT,
	       head - 1, acked, dirty, left, failed, map);
}

static void repagent_status(struct dm_target *ti, status_type_t type,
			    unsigned int status_flags, char *result,
			    unsigned int maxlen)
{
	struct rep_target *t = ti->private;
	struct rep_volume *v = t->volume;
	unsigned int sz = 0, words;

	switch (type) {
	case STATUSTYPE_INFO:
		status_info(v, result, maxlen);
		break;
	case STATUSTYPE_TABLE:
		words = 2 * (!!t->meta + !!t->ring_mib + !!t->region_kib + t->discard_given + !t->bounce);
		DMEMIT("%s %s %s", t->origin->name, v->group->name, v->name);
		if (words)
			DMEMIT(" %u", words);
		if (t->meta)
			DMEMIT(" meta %s", t->meta->name);
		if (t->ring_mib)
			DMEMIT(" ring %u", t->ring_mib);
		if (t->region_kib)
			DMEMIT(" region %u", t->region_kib);
		if (t->discard_given)
			DMEMIT(" discard %s", discard_names[t->discard]);
		if (!t->bounce)
			DMEMIT(" bounce off");
		break;
	case STATUSTYPE_IMA:
		DMEMIT_TARGET_NAME_VERSION(ti->type);
		DMEMIT(",origin=%s,meta=%s,group=%s,volume=%s,discard=%s,bounce=%s;",
		       t->origin->name, t->meta ? t->meta->name : "none", v->group->name, v->name,
		       discard_names[t->discard], t->bounce ? "on" : "off");
		break;
	}
}

/*
 *	checkpoint <label>	answers "<incarnation> <seq>"
 *	resync
 */
static int repagent_message(struct dm_target *ti, unsigned int argc, char **argv,
			    char *result, unsigned int maxlen)
{
	struct rep_target *t = ti->private;
	struct rep_group *g = t->volume->group;
	unsigned int sz = 0;
	const char *c;
	u64 seq;
	int err;

	if (!strcasecmp(argv[0], "checkpoint")) {
		if (argc < 2) {
			DMERR("message checkpoint: expected a word more, the label");
			return -EINVAL;
		}
		if (argc > 2) {
			DMERR("message checkpoint: \"%s\" is one word too many: expected a label without blanks",
			      argv[2]);
			return -EINVAL;
		}
		for (c = argv[1]; isascii(*c) && isprint(*c); c++)
			;
		if (*c || c == argv[1] || c - argv[1] > REPAGENT_LABEL_MAX) {
			DMERR("message checkpoint: \"%s\": expected a label of 1 to %u printable ASCII characters",
			      argv[1], REPAGENT_LABEL_MAX);
			return -EINVAL;
		}
		err = rep_emit_checkpoint(g, argv[1], &seq);
		if (err) {
			DMERR("message checkpoint: \"%s\" has no place in the stream: group %s %s; expected one that streams, with room",
			      argv[1], g->name, err == -EAGAIN ?
			      "does not stream" : "has no room in its ring");
			return err;
		}
		DMEMIT("%016llx %llu", g->ring.incarnation, seq);
		return 1;
	}
	if (!strcasecmp(argv[0], "resync")) {
		if (argc != 1) {
			DMERR("message resync: \"%s\" is one word too many: expected none after resync",
			      argv[1]);
			return -EINVAL;
		}
		rep_volume_require_resync(t);
		return 0;
	}
	DMERR("message \"%s\" is unknown: expected checkpoint <label>, or resync", argv[0]);
	return -EINVAL;
}

static int repagent_iterate_devices(struct dm_target *ti,
				    iterate_devices_callout_fn fn, void *data)
{
	struct rep_target *t = ti->private;

	return fn(ti, t->origin, 0, ti->len, data);
}

static void repagent_io_hints(struct dm_target *ti, struct queue_limits *limits)
{
	struct rep_target *t = ti->private;

	if (t->discard == REP_DISCARD_ZERO) {
		/* They become zeroes, which the origin cuts as it needs. */
		limits->max_discard_sectors = UINT_MAX >> SECTOR_SHIFT;
		limits->max_hw_discard_sectors = UINT_MAX >> SECTOR_SHIFT;
		limits->discard_granularity = max(limits->discard_granularity,
						  limits->logical_block_size);
	}
	if (!t->bounce)
		rep_need_stable_writes(ti, limits);
}

/* ---- module --------------------------------------------------------------- */

static struct target_type repagent_target = {
	.name			= "repagent",
	.version		= {1, 0, 0},
	.features		= DM_TARGET_NOWAIT | DM_TARGET_SINGLETON,
	.module			= THIS_MODULE,
	.ctr			= repagent_ctr,
	.dtr			= repagent_dtr,
	.map			= repagent_map,
	.end_io			= repagent_end_io,
	.presuspend		= repagent_presuspend,
	.presuspend_undo	= repagent_presuspend_undo,
	.postsuspend		= repagent_postsuspend,
	.preresume		= repagent_preresume,
	.status			= repagent_status,
	.message		= repagent_message,
	.iterate_devices	= repagent_iterate_devices,
	.io_hints		= repagent_io_hints,
};

static int __init repagent_init(void)
{
	int err = rep_groups_init();

	if (err)
		return err;
	err = dm_register_target(&repagent_target);
	if (err)
		goto groups;
	err = rep_recover_init();
	if (err)
		goto target;
	return 0;
target:
	dm_unregister_target(&repagent_target);
groups:
	rep_groups_exit();
	return err;
}

static void __exit repagent_exit(void)
{
	rep_recover_exit();
	dm_unregister_target(&repagent_target);
	rep_groups_exit();
}

module_init(repagent_init);
module_exit(repagent_exit);

MODULE_DESCRIPTION(DM_NAME " target for continuous replication");
MODULE_AUTHOR("The dm-repagent authors");
MODULE_LICENSE("GPL");
MODULE_ALIAS("dm-repagent");
