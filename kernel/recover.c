// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device-mapper target "rep-recover": the disk of a VM that runs on the
 * recovery side, answered from the hub.
 *
 *	<start> <len> rep-recover <group> <volume> [<#feature words> <word>...]
 *
 * Every request becomes a record in a ring like a group's, through which a daemon
 * passes it to the hub and answers it. The shape is that of ublk's user copy
 * (drivers/block/ublk_drv.c): descriptors in a read-only mapping, answers by a
 * call. The payload of a write is copied into the ring before the daemon sees it,
 * and stays there until the daemon says, by ACK, that the hub has made it
 * durable. So whatever dies, the daemon, the hub, the way between them, all that
 * a later power cut of the hub could take is there to be sent again, in order,
 * although the VM was answered long ago; and a write costs no flush.
 *
 * A request waits as long as it takes: for room in the ring ("parked"), for a
 * daemon, for the hub. A limit can be set.
 *
 *	parked ──room──► BUSY ──copied──► READY ──answered──► VOID		a READ, a FLUSH
 *						├──durable───► VOID		a change: WRITE, ZEROES, DISCARD
 *						└──ACK───────► gone		VOID, too
 *
 * A change is durable by the answer to a FLUSH behind it, or by FUA; it is sent
 * again, with all before it, until then.
 *
 * A volume whose device was removed lingers until all is acknowledged.
 *
 * Barriers: those of ring.c, with post() in the place of rep_commit().
 */
#include <linux/bio.h>
#include <linux/cdev.h>
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/dm-repagent-recover.h>
#include "repagent.h"
#include "compat.h"

#define REC_MINORS		1024
#define REC_RING_MIB		64	/* default */
#define REC_FEATURE_WORDS_MAX	4
#define REC_TIMEOUT_MAX		86400	/* s */
#define REC_SPAN		65536	/* sectors of a discard or zeroes: 32 MiB */

static LIST_HEAD(rec_volumes);
static DEFINE_MUTEX(rec_lock);	/* guards rec_volumes, and of each: tables, md, registered, dead */
static DEFINE_IDA(rec_minors);
static dev_t rec_devt;

struct rec_volume {
	struct list_head	list;		/* rec_lock */
	struct device		dev;		/* its refcount is the volume's */
	struct cdev		cdev;
	char			group[REPAGENT_NAME_MAX + 1];
	char			name[REPAGENT_NAME_MAX + 1];
	unsigned int		ring_mib;
	bool			registered;	/* rec_lock */
	bool			dead;		/* set once, under rec_lock */
	unsigned int		tables;		/* rec_lock: that name it */
	struct mapped_device	*md;		/* rec_lock: theirs */

	unsigned long		opened;		/* bit 0: by the daemon */
	struct mutex		consumer_lock;	/* guards ring.acked, with lock: nothing is acknowledged that is being answered */
	u64			voided;		/* consumer_lock: changes up to it are durable */

	spinlock_t		lock;		/* guards all from here to timeout */
	struct rep_ring		ring;
	struct rec_io		**io;		/* of the record in that slot: not answered yet */
	struct bio_list		parked;		/* in the order in which they came */
	unsigned int		nr_parked;
	unsigned int		waiting;	/* entries of io */
	bool			requeue;	/* a noflush suspend: nothing may wait here */
	u64			sectors;
	u64			failed;		/* requests that ended with an error */
	u64			hub;		/* whose disk it is; 0: not known yet */
	unsigned int		timeout;	/* s; 0: none */

	wait_queue_head_t	wait;		/* the daemon's poll() */
	u64			wait_seq;	/* the daemon sleeps for this */
	struct delayed_work	work;		/* ends what has waited too long */
};

struct rec_target {
	struct dm_target	*ti;
	struct rec_volume	*volume;
	unsigned int		ring_mib;	/* 0: not given */
	unsigned int		timeout;	/* s; 0: none */
};

/* What becomes of a bio; per-bio data of dm. */
struct rec_io {
	struct rep_record	rec;
	u8			type;
	u8			flags;
	unsigned int		len;		/* bytes of payload */
	sector_t		sector;
	sector_t		nr_sectors;
	unsigned long		since;		/* jiffies */
};

/*
 * The daemon may wait for rec_lock, and then nothing is answered: whoever holds it
 * must not wait for memory that could only be had by writing to such a disk.
 */
static unsigned int volumes_lock(void)
{
	mutex_lock(&rec_lock);
	return memalloc_noio_save();
}

static void volumes_unlock(unsigned int noio)
{
	memalloc_noio_restore(noio);
	mutex_unlock(&rec_lock);
}

static struct bio *bio_of(struct rec_io *io)
{
	return dm_bio_from_per_bio_data(io, sizeof(*io));
}

static struct rec_io **io_of(struct rec_volume *v, u64 seq)
{
	return &v->io[seq & (v->ring.nr_slots - 1)];
}

static void end(struct rec_io *io, blk_status_t status)
{
	struct bio *bio = bio_of(io);

	bio->bi_status = status;
	bio_endio(bio);
}

/* ---- requests ------------------------------------------------------------ */

/* Take a request for its answer, if nobody did before. Under rec_volume.lock. */
static struct rec_io *take(struct rec_volume *v, u64 seq)
{
	struct rec_io *io;

	lockdep_assert_held(&v->lock);
	/* While it is BUSY, somebody copies from the bio. */
	if (seq <= v->ring.acked || seq >= v->ring.head || !rep_ring_is_committed(&v->ring, seq))
		return NULL;
	io = *io_of(v, seq);
	*io_of(v, seq) = NULL;
	if (io)
		v->waiting--;
	return io;
}

/*
 * Nothing of a request but a change of the disk is worth to be sent again. Under
 * rec_volume.lock: no other record can have its slot by then.
 */
static void retire(struct rec_volume *v, struct rec_io *io)
{
	lockdep_assert_held(&v->lock);
	if (io->type == REPAGENT_RECOVER_READ || io->type == REPAGENT_RECOVER_FLUSH)
		/* pairs with the daemon's load-acquire */
		smp_store_release(&io->rec.slot->commit,
				  REPAGENT_SLOT_WORD(io->rec.seq, REPAGENT_SLOT_VOID));
}

/*
 * A flush, or a write with FUA, succeeded: the changes that were answered before it
 * are durable. They must not be sent again: while they are, the hub would have what
 * was there before. Under consumer_lock alone, for they may be many: what has been
 * taken for its answer stays so, and nobody else has its slot before it is acknowledged.
 */
static void void_durable(struct rec_volume *v, const struct rec_io *io)
{
	struct rep_ring *r = &v->ring;
	u64 seq, last = io->rec.seq - !(io->flags & REPAGENT_REC_FUA);

	lockdep_assert_held(&v->consumer_lock);
	/* A change that had no answer yet when those around it had become durable. */
	if (io->type != REPAGENT_RECOVER_READ && io->rec.seq <= v->voided)
		v->voided = io->rec.seq - 1;
	if (io->type != REPAGENT_RECOVER_FLUSH && !(io->flags & REPAGENT_REC_FUA))
		return;
	for (seq = max(v->voided, r->acked) + 1; seq <= last; seq++) {
		if (!READ_ONCE(*io_of(v, seq)) && rep_ring_is_committed(r, seq))
			/* pairs with the daemon's load-acquire */
			smp_store_release(&r->slots[seq & (r->nr_slots - 1)].commit,
					  REPAGENT_SLOT_WORD(seq, REPAGENT_SLOT_VOID));
		if (!(seq % 4096))
			cond_resched();
	}
	v->voided = max(v->voided, last);
}

/*
 * End all that waits, or what has waited for longer than @limit jiffies.
 * Context: process; does not sleep.
 */
static void end_waiting(struct rec_volume *v, unsigned long limit, blk_status_t status)
{
	unsigned long now = jiffies;
	struct bio_list old;
	struct rec_io *io;
	struct bio *bio;
	u64 seq;

	bio_list_init(&old);
	spin_lock_irq(&v->lock);
	for (seq = v->ring.acked + 1; seq < v->ring.head && v->waiting; seq++) {
		if (!(seq % 4096)) {	/* it may be long, and must not sleep: map() comes here */
			spin_unlock_irq(&v->lock);
			spin_lock_irq(&v->lock);
		}
		if (status == BLK_STS_DM_REQUEUE && !v->requeue)
			break;
		io = seq > v->ring.acked ? *io_of(v, seq) : NULL;
		if (!io || (limit && time_before(now, io->since + limit)))
			continue;
		io = take(v, seq);
		if (!io)
			continue;
		retire(v, io);
		v->failed += status != BLK_STS_DM_REQUEUE;
		bio_list_add(&old, bio_of(io));
	}
	while ((bio = bio_list_peek(&v->parked)) && (status != BLK_STS_DM_REQUEUE || v->requeue)) {
		io = dm_per_bio_data(bio, sizeof(*io));
		if (limit && time_before(now, io->since + limit))
			break;
		bio_list_pop(&v->parked);
		v->nr_parked--;
		v->failed += status != BLK_STS_DM_REQUEUE;
		bio_list_add(&old, bio);
	}
	spin_unlock_irq(&v->lock);
	while ((bio = bio_list_pop(&old)))
		end(dm_per_bio_data(bio, sizeof(*io)), status);
}

/* A place in the ring. Under rec_volume.lock. */
static bool reserve(struct rec_volume *v, struct rec_io *io)
{
	lockdep_assert_held(&v->lock);
	if (!rep_ring_has_room(&v->ring, io->len, 0))
		return false;
	rep_ring_fill(&v->ring, &io->rec, io->type, io->flags, 0, 0, io->sector, io->nr_sectors,
		      io->len);
	*io_of(v, io->rec.seq) = io;
	v->waiting++;
	return true;
}

/* The request has its place: fill it, and tell the daemon. The bio may be gone afterwards. */
static void post(struct rec_volume *v, struct rec_io *io)
{
	struct rep_record rec = io->rec;

	if (io->len)
		rep_ring_copy(&v->ring, rec.pos, bio_of(io));
	/* pairs with the daemon's, and rep_ring_is_committed()'s, load-acquire */
	smp_store_release(&rec.slot->commit, REPAGENT_SLOT_WORD(rec.seq, REPAGENT_SLOT_READY));
	smp_mb();	/* pairs with smp_mb() in the WAIT ioctl, and with that in presuspend */
	if (READ_ONCE(v->wait_seq) == rec.seq)
		wake_up_interruptible_poll(&v->wait, EPOLLIN);
	if (unlikely(READ_ONCE(v->requeue)))
		end_waiting(v, 0, BLK_STS_DM_REQUEUE);
}

/* There is room again. Context: process. */
static void unpark(struct rec_volume *v)
{
	struct rec_io *io;
	struct bio *bio;

	for (;;) {
		spin_lock_irq(&v->lock);
		bio = bio_list_peek(&v->parked);
		io = bio ? dm_per_bio_data(bio, sizeof(*io)) : NULL;
		if (!io || !reserve(v, io)) {
			spin_unlock_irq(&v->lock);
			return;
		}
		bio_list_pop(&v->parked);
		v->nr_parked--;
		spin_unlock_irq(&v->lock);
		post(v, io);
	}
}

static int recover_map(struct dm_target *ti, struct bio *bio)
{
	struct rec_io *io = dm_per_bio_data(bio, sizeof(*io));
	struct rec_target *t = ti->private;
	struct rec_volume *v = t->volume;
	bool fits, parked = false;

	switch (bio_op(bio)) {
	case REQ_OP_READ:
		io->type = REPAGENT_RECOVER_READ;
		break;
	case REQ_OP_WRITE:
		io->type = bio_sectors(bio) ? REPAGENT_RECOVER_WRITE : REPAGENT_RECOVER_FLUSH;
		break;
	case REQ_OP_FLUSH:
		io->type = REPAGENT_RECOVER_FLUSH;
		break;
	case REQ_OP_WRITE_ZEROES:
		io->type = REPAGENT_RECOVER_ZEROES;
		break;
	case REQ_OP_DISCARD:
		io->type = REPAGENT_RECOVER_DISCARD;
		break;
	default:
		bio->bi_status = BLK_STS_NOTSUPP;
		bio_endio(bio);
		return DM_MAPIO_SUBMITTED;
	}
	bio->bi_opf &= ~REQ_POLLED;
	io->sector = dm_target_offset(ti, bio->bi_iter.bi_sector);
	io->nr_sectors = bio_sectors(bio);
	io->len = io->type == REPAGENT_RECOVER_WRITE ? bio->bi_iter.bi_size : 0;
	io->flags = io->nr_sectors && bio->bi_opf & REQ_FUA ? REPAGENT_REC_FUA : 0;
	io->since = jiffies;

	spin_lock_irq(&v->lock);
	if (unlikely(v->requeue)) {
		if (dm_noflush_suspending(ti)) {
			spin_unlock_irq(&v->lock);
			return DM_MAPIO_REQUEUE;
		}
		/* The suspend was given up; dm brings back what it kept before it says so. */
		WRITE_ONCE(v->requeue, false);
	}
	fits = bio_list_empty(&v->parked) && reserve(v, io);
	if (!fits && !(bio->bi_opf & REQ_NOWAIT)) {
		bio_list_add(&v->parked, bio);
		v->nr_parked++;
		parked = true;
	}
	spin_unlock_irq(&v->lock);
	if (fits)
		post(v, io);
	else if (!parked)
		end(io, BLK_STS_AGAIN);
	return DM_MAPIO_SUBMITTED;
}

static void timeout_work(struct work_struct *work)
{
	struct rec_volume *v = container_of(to_delayed_work(work), struct rec_volume, work);
	unsigned int timeout = READ_ONCE(v->timeout);

	if (!timeout)
		return;
	end_waiting(v, timeout * HZ, BLK_STS_TIMEOUT);
	rep_queue_delayed_work(&v->work, HZ);
}

/* ---- the character device ------------------------------------------------ */

static void unregister(struct rec_volume *v)
{
	lockdep_assert_held(&rec_lock);
	list_del(&v->list);
	v->registered = false;
	WRITE_ONCE(v->dead, true);
	cdev_device_del(&v->cdev, &v->dev);
	wake_up_interruptible_poll(&v->wait, EPOLLHUP);
	put_device(&v->dev);		/* neither is the last: who calls has one, too */
	module_put(THIS_MODULE);
}

/* How many changes of the disk are not acknowledged. All is answered, or sent again, for the device is gone. */
static unsigned int changes_left(struct rec_volume *v)
{
	unsigned int n = 0;
	u64 seq;

	mutex_lock(&v->consumer_lock);
	for (seq = v->ring.acked + 1; seq < READ_ONCE(v->ring.head); seq++) {
		/* pairs with smp_store_release() in retire() and void_durable() */
		n += smp_load_acquire(&v->ring.slots[seq & (v->ring.nr_slots - 1)].commit) !=
		     REPAGENT_SLOT_WORD(seq, REPAGENT_SLOT_VOID);
		if (!(seq % 4096))
			cond_resched();
	}
	mutex_unlock(&v->consumer_lock);
	return n;
}

/*
 * The daemon has found the disk at the hub. What was not durable at one must not get
 * to another: a new fail-over is not the one that was rolled back.
 */
static int bind(struct rec_volume *v, u64 hub)
{
	bool same;

	if (!hub)
		return -EINVAL;
	spin_lock_irq(&v->lock);
	same = v->hub == hub;
	spin_unlock_irq(&v->lock);
	if (same)
		return 0;
	if (READ_ONCE(v->hub) && changes_left(v))
		return -ESTALE;
	spin_lock_irq(&v->lock);
	v->hub = hub;
	spin_unlock_irq(&v->lock);
	return 0;
}

/* Take a volume away that nobody needs. The caller has a reference. */
static void reap(struct rec_volume *v, bool forget)
{
	unsigned int noio;

	/* A device that goes away meanwhile sees to it itself. */
	if (READ_ONCE(v->tables))
		return;
	noio = volumes_lock();
	if (v->registered && !v->tables && (forget || !changes_left(v)))
		unregister(v);
	volumes_unlock(noio);
}

static int rec_open(struct inode *inode, struct file *file)
{
	struct rec_volume *v = container_of(inode->i_cdev, struct rec_volume, cdev);

	if (!(file->f_mode & FMODE_WRITE))
		return -EACCES;
	if (READ_ONCE(v->dead))
		return -ENODEV;
	if (test_and_set_bit_lock(0, &v->opened))
		return -EBUSY;
	get_device(&v->dev);
	file->private_data = v;
	return nonseekable_open(inode, file);
}

static int rec_release(struct inode *inode, struct file *file)
{
	struct rec_volume *v = file->private_data;

	WRITE_ONCE(v->wait_seq, 0);
	clear_bit_unlock(0, &v->opened);
	put_device(&v->dev);
	return 0;
}

static int rec_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct rec_volume *v = file->private_data;

	return rep_ring_mmap(&v->ring, vma);
}

static __poll_t rec_poll(struct file *file, poll_table *wait)
{
	struct rec_volume *v = file->private_data;

	poll_wait(file, &v->wait, wait);
	if (READ_ONCE(v->dead))
		return EPOLLHUP;
	return rep_ring_is_committed(&v->ring, READ_ONCE(v->wait_seq)) ? EPOLLIN : 0;
}

static void get_info(struct rec_volume *v, struct repagent_recover_info *info)
{
	info->active = READ_ONCE(v->tables) && READ_ONCE(v->sectors);
	info->abi_version = REPAGENT_RECOVER_ABI_VERSION;
	info->incarnation = v->ring.incarnation;
	info->map_size = v->ring.hdr->map_size;
	info->payload_size = v->ring.payload_size;
	strscpy(info->group, v->group, sizeof(info->group));
	strscpy(info->volume, v->name, sizeof(info->volume));
	spin_lock_irq(&v->lock);
	info->sectors = v->sectors;
	info->head = v->ring.head;
	info->acked = v->ring.acked;
	info->parked = v->nr_parked;
	info->payload_used = v->ring.payload_head - v->ring.payload_tail;
	spin_unlock_irq(&v->lock);
}

static int copy_answer(struct bio *bio, u64 from)
{
	struct bvec_iter iter;
	struct bio_vec bv;

	bio_for_each_segment(bv, bio, iter) {
		void *to = bvec_kmap_local(&bv);
		unsigned long left = copy_from_user(to, u64_to_user_ptr(from), bv.bv_len);

		kunmap_local(to);
		if (left)
			return -EFAULT;
		flush_dcache_page(bv.bv_page);
		from += bv.bv_len;
	}
	return 0;
}

/* What the daemon may say of a request; others have a meaning for dm. */
static blk_status_t status_of(u32 error)
{
	switch (error) {
	case 0:
		return BLK_STS_OK;
	case ENOSPC:
		return BLK_STS_NOSPC;
	case EOPNOTSUPP:
		return BLK_STS_NOTSUPP;
	case ETIMEDOUT:
		return BLK_STS_TIMEOUT;
	default:
		return BLK_STS_IOERR;
	}
}

/* Under consumer_lock. */
static int answer_one(struct rec_volume *v, const struct repagent_recover_done *d)
{
	struct rec_io *io;
	int err = 0;

	spin_lock_irq(&v->lock);
	if (!d->seq || d->seq >= v->ring.head || !rep_ring_is_committed(&v->ring, d->seq))
		err = -EINVAL;
	io = err ? NULL : take(v, d->seq);
	spin_unlock_irq(&v->lock);
	if (!io)
		return err;
	if (io->type == REPAGENT_RECOVER_READ && !d->error)
		err = d->len == bio_of(io)->bi_iter.bi_size ? copy_answer(bio_of(io), d->data) : -EINVAL;
	if (!err && !d->error)
		void_durable(v, io);
	spin_lock_irq(&v->lock);
	if (err) {
		*io_of(v, d->seq) = io;
		v->waiting++;
	} else {
		retire(v, io);
		v->failed += !!d->error;
	}
	spin_unlock_irq(&v->lock);
	if (!err)
		end(io, status_of(d->error));
	else if (READ_ONCE(v->requeue))
		end_waiting(v, 0, BLK_STS_DM_REQUEUE);
	return err;
}

static int answer(struct rec_volume *v, const struct repagent_recover_answer *a)
{
	const struct repagent_recover_done __user *p = u64_to_user_ptr(a->done);
	struct repagent_recover_done done[8];
	unsigned int i, k, n;
	int err = 0;

	if (a->incarnation != v->ring.incarnation || a->reserved || a->nr > REPAGENT_RECOVER_BATCH)
		return -EINVAL;
	for (i = 0; i < a->nr && !err; i += n) {
		n = min_t(unsigned int, a->nr - i, ARRAY_SIZE(done));
		/* Not under the lock: it may take as long as whoever owns that memory likes. */
		if (copy_from_user(done, p + i, n * sizeof(*done)))
			return -EFAULT;
		mutex_lock(&v->consumer_lock);
		for (k = 0; k < n && !err; k++)
			err = answer_one(v, &done[k]);
		mutex_unlock(&v->consumer_lock);
	}
	return err;
}

static int acknowledge(struct rec_volume *v, const struct repagent_ack *ack)
{
	struct rep_ring *r = &v->ring;
	int err = -EINVAL;
	u64 seq;

	if (ack->incarnation != r->incarnation)
		return -EINVAL;
	mutex_lock(&v->consumer_lock);
	if (ack->seq < r->acked || ack->seq >= smp_load_acquire(&r->hdr->head))
		goto out;
	/* What is committed and answered stays so: acked is what consumer_lock guards. */
	for (seq = r->acked + 1; seq <= ack->seq; seq++) {
		if (!rep_ring_is_committed(r, seq) || READ_ONCE(*io_of(v, seq)))
			goto out;
		if (!(seq % 4096))
			cond_resched();
	}
	err = 0;
	if (ack->seq == r->acked)
		goto out;
	spin_lock_irq(&v->lock);
	r->payload_tail = rep_ring_end(r, ack->seq);
	WRITE_ONCE(r->acked, ack->seq);
	spin_unlock_irq(&v->lock);
out:
	mutex_unlock(&v->consumer_lock);
	if (err)
		return err;
	unpark(v);
	reap(v, false);
	return 0;
}

static int wait_for(struct rec_volume *v, const struct repagent_wait *w)
{
	if (w->events)
		return -EINVAL;
	WRITE_ONCE(v->wait_seq, w->seq);
	smp_mb();	/* pairs with smp_mb() in post() */
	return rep_ring_is_committed(&v->ring, w->seq);
}

static long rec_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct rec_volume *v = file->private_data;
	void __user *p = (void __user *)arg;
	union {
		struct repagent_recover_info	info;
		struct repagent_recover_answer	answer;
		struct repagent_ack		ack;
		struct repagent_wait		wait;
		__u64				hub;
	} u;

	switch (cmd) {
	case REPAGENT_RECOVER_IOC_INFO:
	case REPAGENT_RECOVER_IOC_ANSWER:
	case REPAGENT_RECOVER_IOC_ACK:
	case REPAGENT_RECOVER_IOC_WAIT:
	case REPAGENT_RECOVER_IOC_BIND:
	case REPAGENT_RECOVER_IOC_FORGET:
		break;
	default:
		return -ENOTTY;
	}
	if (READ_ONCE(v->dead))
		return -ENODEV;
	memset(&u, 0, sizeof(u));
	if ((_IOC_DIR(cmd) & _IOC_WRITE) && copy_from_user(&u, p, _IOC_SIZE(cmd)))
		return -EFAULT;
	switch (cmd) {
	case REPAGENT_RECOVER_IOC_INFO:
		get_info(v, &u.info);
		return copy_to_user(p, &u.info, sizeof(u.info)) ? -EFAULT : 0;
	case REPAGENT_RECOVER_IOC_ANSWER:
		return answer(v, &u.answer);
	case REPAGENT_RECOVER_IOC_ACK:
		return acknowledge(v, &u.ack);
	case REPAGENT_RECOVER_IOC_WAIT:
		return wait_for(v, &u.wait);
	case REPAGENT_RECOVER_IOC_BIND:
		return bind(v, u.hub);
	default:
		reap(v, true);
		return READ_ONCE(v->dead) ? 0 : -EBUSY;
	}
}

static const struct file_operations rec_fops = {
	.owner		= THIS_MODULE,
	.open		= rec_open,
	.release	= rec_release,
	.mmap		= rec_mmap,
	.poll		= rec_poll,
	.unlocked_ioctl	= rec_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

static char *rec_devnode(REP_DEVNODE_CONST struct device *dev, umode_t *mode)
{
	const struct rec_volume *v = container_of(dev, struct rec_volume, dev);

	if (mode)
		*mode = 0600;
	return kasprintf(GFP_KERNEL, "rep-recover/%s/%s", v->group, v->name);
}

static struct class rec_class = {
	.name		= "rep-recover",
	.devnode	= rec_devnode,
};

/* ---- volumes ------------------------------------------------------------- */

/* The last reference is gone, the file is closed. */
static void volume_release(struct device *dev)
{
	struct rec_volume *v = container_of(dev, struct rec_volume, dev);

	WRITE_ONCE(v->timeout, 0);
	cancel_delayed_work_sync(&v->work);
	rep_ring_exit(&v->ring);
	kvfree(v->io);
	if (v->dev.devt)
		ida_free(&rec_minors, MINOR(v->dev.devt));
	mutex_destroy(&v->consumer_lock);
	kfree(v);
}

static struct rec_volume *volume_create(const char *group, const char *name, unsigned int mib,
					char **error)
{
	struct rec_volume *v = kzalloc(sizeof(*v), GFP_KERNEL);
	int minor, err;

	*error = "no memory for the volume";
	if (!v)
		return ERR_PTR(-ENOMEM);
	strscpy(v->group, group, sizeof(v->group));
	strscpy(v->name, name, sizeof(v->name));
	v->ring_mib = mib;
	mutex_init(&v->consumer_lock);
	spin_lock_init(&v->lock);
	bio_list_init(&v->parked);
	init_waitqueue_head(&v->wait);
	INIT_DELAYED_WORK(&v->work, timeout_work);
	device_initialize(&v->dev);
	v->dev.class = &rec_class;
	v->dev.release = volume_release;

	err = rep_ring_init(&v->ring, mib);
	if (err == -ENOSPC)
		*error = "the ring would exceed the module's ring_total_mib";
	else if (err)
		*error = "no memory for the ring";
	if (err)
		goto put;
	err = -ENOMEM;
	v->io = kvcalloc(v->ring.nr_slots, sizeof(*v->io), GFP_KERNEL);
	if (!v->io)
		goto put;
	minor = ida_alloc_max(&rec_minors, REC_MINORS - 1, GFP_KERNEL);
	if (minor < 0) {
		*error = "too many volumes";
		err = minor;
		goto put;
	}
	v->dev.devt = MKDEV(MAJOR(rec_devt), minor);
	cdev_init(&v->cdev, &rec_fops);
	v->cdev.owner = THIS_MODULE;
	err = dev_set_name(&v->dev, "%s:%s", group, name);
	if (!err)
		err = cdev_device_add(&v->cdev, &v->dev);
	if (err) {
		*error = "the volume's character device could not be made";
		goto put;
	}
	__module_get(THIS_MODULE);	/* what lingers must not be lost */
	v->registered = true;
	list_add_tail(&v->list, &rec_volumes);
	return v;
put:
	put_device(&v->dev);
	return ERR_PTR(err);
}

static struct rec_volume *volume_find(const char *group, const char *name)
{
	struct rec_volume *v;

	list_for_each_entry(v, &rec_volumes, list)
		if (!strcmp(v->group, group) && !strcmp(v->name, name))
			return v;
	return NULL;
}

/* The table's volume: a new one, that of the same device, or one that lingers. */
static int attach(struct rec_target *t, const char *group, const char *name)
{
	struct mapped_device *md = dm_table_get_md(t->ti->table);
	struct rec_volume *v;
	unsigned int noio = volumes_lock();
	int err = 0;

	v = volume_find(group, name);
	if (v && v->tables && v->md != md) {
		DMERR("volume %s/%s: device %s has it", group, name, dm_device_name(v->md));
		t->ti->error = "another device has this volume of this group";
		err = -EBUSY;
	} else if (v && t->ring_mib && t->ring_mib != v->ring_mib) {
		DMERR("feature ring: %u: volume %s/%s has a ring of %u MiB", t->ring_mib, group, name,
		      v->ring_mib);
		t->ti->error = "ring: the volume has one of another size";
		err = -EINVAL;
	} else if (!v) {
		v = volume_create(group, name, t->ring_mib ?: REC_RING_MIB, &t->ti->error);
		err = PTR_ERR_OR_ZERO(v);
	}
	if (!err) {
		get_device(&v->dev);
		WRITE_ONCE(v->tables, v->tables + 1);
		v->md = md;
		t->volume = v;
	}
	volumes_unlock(noio);
	return err;
}

static void detach(struct rec_target *t)
{
	struct rec_volume *v = t->volume;
	unsigned int noio = volumes_lock(), left;

	WRITE_ONCE(v->tables, v->tables - 1);
	if (!v->tables) {
		v->md = NULL;
		WRITE_ONCE(v->timeout, 0);
	}
	left = v->tables ? 0 : changes_left(v);
	if (left)
		DMWARN("volume %s/%s: %u writes are not durable at the hub yet; it stays until they are",
		       v->group, v->name, left);
	volumes_unlock(noio);
	reap(v, false);
	put_device(&v->dev);
}

/* ---- construction -------------------------------------------------------- */

#define ctr_error(ti, text, fmt, ...) ({	\
	DMERR(fmt, ##__VA_ARGS__);		\
	(ti)->error = (text);			\
	-EINVAL;				\
})

static int parse_features(struct rec_target *t, struct dm_arg_set *as)
{
	struct dm_target *ti = t->ti;
	const char *word, *value;
	unsigned int words, n;

	if (!as->argc)
		return 0;
	word = dm_shift_arg(as);
	if (kstrtouint(word, 10, &words) || words > REC_FEATURE_WORDS_MAX || words % 2)
		return ctr_error(ti, "expected the number of feature words after <volume>: 0, 2 or 4",
				 "\"%s\": not a number of feature words", word);
	if (as->argc != words)
		return ctr_error(ti, "the number of feature words is not that of the words behind it",
				 "%u feature words: %u follow", words, as->argc);
	for (; words; words -= 2) {
		word = dm_shift_arg(as);
		value = dm_shift_arg(as);
		if (!strcasecmp(word, "ring")) {
			if (t->ring_mib)
				return ctr_error(ti, "ring is there twice: expected once", "feature ring: twice");
			/* A quarter of it holds the largest request. */
			if (kstrtouint(value, 10, &n) || n < 4 || n > 16384)
				return ctr_error(ti, "ring: expected MiB, a number from 4 to 16384",
						 "feature ring: \"%s\" is not what it takes", value);
			t->ring_mib = n;
		} else if (!strcasecmp(word, "timeout")) {
			if (t->timeout)
				return ctr_error(ti, "timeout is there twice: expected once", "feature timeout: twice");
			if (kstrtouint(value, 10, &n) || n < 1 || n > REC_TIMEOUT_MAX)
				return ctr_error(ti, "timeout: expected seconds, a number from 1 to 86400",
						 "feature timeout: \"%s\" is not what it takes", value);
			t->timeout = n;
		} else {
			return ctr_error(ti, "unknown feature: expected ring or timeout",
					 "feature \"%s\": unknown", word);
		}
	}
	return 0;
}

static int recover_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct dm_arg_set as = { .argc = argc, .argv = argv };
	const char *group, *name;
	struct rec_target *t;
	int err;

	if (argc < 2)
		return ctr_error(ti, "expected: <group> <volume> [<#feature words> <word>...]",
				 "no %s after \"%s\"", argc ? "volume" : "group",
				 argc ? argv[0] : "rep-recover");
	group = dm_shift_arg(&as);
	name = dm_shift_arg(&as);
	if (!rep_name_ok(group))
		return ctr_error(ti, "group: expected 1 to 31 letters, digits, '_', '.', '-', not beginning with '.' or '-'",
				 "group \"%s\": not a name", group);
	if (!rep_name_ok(name))
		return ctr_error(ti, "volume: expected 1 to 31 letters, digits, '_', '.', '-', not beginning with '.' or '-'",
				 "volume \"%s\": not a name", name);
	t = kzalloc(sizeof(*t), GFP_KERNEL);
	if (!t) {
		ti->error = "no memory for the target";
		return -ENOMEM;
	}
	t->ti = ti;
	err = parse_features(t, &as) ?: dm_set_target_max_io_len(ti, REPAGENT_RECOVER_MAX >> SECTOR_SHIFT) ?:
	      attach(t, group, name);
	if (err) {
		kfree(t);
		return err;
	}
	ti->private = t;
	ti->num_flush_bios = 1;
	ti->flush_supported = true;
	ti->num_discard_bios = 1;
	ti->discards_supported = true;
	ti->num_write_zeroes_bios = 1;
	ti->num_secure_erase_bios = 0;
	ti->per_io_data_size = sizeof(struct rec_io);
	return 0;
}

static void recover_dtr(struct dm_target *ti)
{
	struct rec_target *t = ti->private;

	detach(t);
	kfree(t);
}

static void recover_presuspend(struct dm_target *ti)
{
	struct rec_target *t = ti->private;
	struct rec_volume *v = t->volume;

	if (!dm_noflush_suspending(ti))
		return;
	/* dm waits for what is on its way, and the hub may be gone: dm shall keep it. */
	spin_lock_irq(&v->lock);
	WRITE_ONCE(v->requeue, true);
	spin_unlock_irq(&v->lock);
	smp_mb();	/* pairs with smp_mb() in post(): what was BUSY is ended there */
	end_waiting(v, 0, BLK_STS_DM_REQUEUE);
}

static void requests_may_wait(struct rec_volume *v)
{
	spin_lock_irq(&v->lock);
	WRITE_ONCE(v->requeue, false);
	spin_unlock_irq(&v->lock);
}

static void recover_presuspend_undo(struct dm_target *ti)
{
	struct rec_target *t = ti->private;

	requests_may_wait(t->volume);
}

static int recover_preresume(struct dm_target *ti)
{
	struct rec_target *t = ti->private;
	struct rec_volume *v = t->volume;

	spin_lock_irq(&v->lock);
	v->sectors = ti->len;
	WRITE_ONCE(v->timeout, t->timeout);
	spin_unlock_irq(&v->lock);
	requests_may_wait(v);
	if (t->timeout)
		rep_queue_delayed_work(&v->work, HZ);
	return 0;
}

static void recover_status(struct dm_target *ti, status_type_t type, unsigned int status_flags,
			   char *result, unsigned int maxlen)
{
	struct rec_target *t = ti->private;
	struct rec_volume *v = t->volume;
	u64 used, head, acked, failed;
	unsigned int sz = 0, waiting;

	switch (type) {
	case STATUSTYPE_INFO:
		spin_lock_irq(&v->lock);
		used = v->ring.payload_head - v->ring.payload_tail;
		waiting = v->waiting + v->nr_parked;
		head = v->ring.head;
		acked = v->ring.acked;
		failed = v->failed;
		spin_unlock_irq(&v->lock);
		DMEMIT("%s %s %s %u %llu/%llu %llu %llu %llu", v->group, v->name,
		       test_bit(0, &v->opened) ? "daemon" : "no-daemon", waiting,
		       used >> SECTOR_SHIFT, v->ring.payload_size >> SECTOR_SHIFT, head - 1, acked,
		       failed);
		break;
	case STATUSTYPE_TABLE:
		DMEMIT("%s %s", v->group, v->name);
		if (t->ring_mib || t->timeout)
			DMEMIT(" %u", 2 * (!!t->ring_mib + !!t->timeout));
		if (t->ring_mib)
			DMEMIT(" ring %u", t->ring_mib);
		if (t->timeout)
			DMEMIT(" timeout %u", t->timeout);
		break;
	case STATUSTYPE_IMA:
		DMEMIT_TARGET_NAME_VERSION(ti->type);
		DMEMIT(",group=%s,volume=%s;", v->group, v->name);
		break;
	}
}

/* There is no device below; without this, dm thinks there is one that cannot write zeroes. */
static int recover_iterate_devices(struct dm_target *ti, iterate_devices_callout_fn fn, void *data)
{
	return 0;
}

static void recover_io_hints(struct dm_target *ti, struct queue_limits *limits)
{
	limits->max_discard_sectors = REC_SPAN;
	limits->max_hw_discard_sectors = REC_SPAN;
	limits->discard_granularity = PAGE_SIZE;
	limits->max_write_zeroes_sectors = REC_SPAN;
	rep_no_devices_below(limits);
}

static struct target_type recover_target = {
	.name			= "rep-recover",
	.version		= {1, 0, 0},
	.features		= DM_TARGET_NOWAIT | DM_TARGET_SINGLETON,
	.module			= THIS_MODULE,
	.ctr			= recover_ctr,
	.dtr			= recover_dtr,
	.map			= recover_map,
	.presuspend		= recover_presuspend,
	.presuspend_undo	= recover_presuspend_undo,
	.preresume		= recover_preresume,
	.status			= recover_status,
	.iterate_devices	= recover_iterate_devices,
	.io_hints		= recover_io_hints,
};

/**
 * rep_recover_init - register the target and its character devices
 *
 * Return: 0 or a negative errno.
 */
int __init rep_recover_init(void)
{
	int err = alloc_chrdev_region(&rec_devt, 0, REC_MINORS, "rep-recover");

	if (err)
		return err;
	err = class_register(&rec_class);
	if (err)
		goto region;
	err = dm_register_target(&recover_target);
	if (err)
		goto class;
	return 0;
class:
	class_unregister(&rec_class);
region:
	unregister_chrdev_region(rec_devt, REC_MINORS);
	return err;
}

/**
 * rep_recover_exit - undo rep_recover_init(); no volume is left, for each holds the module
 */
void rep_recover_exit(void)
{
	dm_unregister_target(&recover_target);
	class_unregister(&rec_class);
	unregister_chrdev_region(rec_devt, REC_MINORS);
	ida_destroy(&rec_minors);
}

MODULE_ALIAS("dm-rep-recover");
