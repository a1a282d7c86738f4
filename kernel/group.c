// SPDX-License-Identifier: GPL-2.0-only
/*
 * Groups and volumes: their lives, their states, and the character device
 * through which the daemon serves a group.
 *
 * A group is born with its first volume and outlives tables. A volume whose
 * device was removed lingers until every record that may name it is
 * acknowledged; a new target of the same name takes it up again. When the last
 * volume is gone, so is the group.
 */
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/part_stat.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/poll.h>
#include <linux/random.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/sysfs.h>
#include <linux/uaccess.h>
#include <linux/uuid.h>
#include "repagent.h"
#include "compat.h"
#define CREATE_TRACE_POINTS
#include "trace.h"

#define REP_MINORS	1024

static LIST_HEAD(rep_groups);
static LIST_HEAD(rep_targets);	/* all that are attached */
static DEFINE_MUTEX(rep_groups_lock);	/* guards rep_groups and rep_targets */
static DEFINE_IDA(rep_minors);
static dev_t rep_devt;
static bool rep_forgot;	/* a group was forgotten; rep_groups_lock */

const char * const rep_capture_names[] = { "init", "stream", "track" };
const char * const rep_image_names[] = { "clean", "dirty", "resync" };
const char * const rep_reason_names[] = {
	"none", "first-sync", "unclean", "no-map", "ring-full", "hub-refused",
	"hub-full", "fenced", "paused", "meta-error", "write-failed",
	"requested", "resized",
};

/**
 * rep_name_ok - may a group or a volume be called this?
 * @name: the name
 *
 * Return: true if it has 1 to REPAGENT_NAME_MAX letters, digits, '_', '.' and
 * '-', and begins with a letter, a digit or '_'.
 */
bool rep_name_ok(const char *name)
{
	size_t len = strlen(name);

	return len && len <= REPAGENT_NAME_MAX && *name != '.' && *name != '-' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz"
			    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == len;
}

/*
 * preresume takes the mutex while the VM's disk stands still: whoever holds it
 * must not wait for memory that could only be had by writing to that disk.
 */
static unsigned int group_lock(struct rep_group *g)
{
	mutex_lock(&g->mutex);
	return memalloc_noio_save();
}

static void group_unlock(struct rep_group *g, unsigned int noio)
{
	memalloc_noio_restore(noio);
	mutex_unlock(&g->mutex);
}

/* ---- states -------------------------------------------------------------- */

/*
 * Capture, of a group:
 *
 *	from	to	when
 *	INIT	STREAM	the daemon says that the hub takes the stream
 *	STREAM	TRACK	the ring is full, or the hub refuses
 *	TRACK	STREAM	the hub takes the stream, the ring is under 25 %, and
 *			the dwell time is over
 *
 * INIT behaves as TRACK. See rep_resync_work() for the last row.
 */
static const bool capture_legal[3][3] = {
	[REPAGENT_CAPTURE_INIT][REPAGENT_CAPTURE_STREAM]	= true,
	[REPAGENT_CAPTURE_STREAM][REPAGENT_CAPTURE_TRACK]	= true,
	[REPAGENT_CAPTURE_TRACK][REPAGENT_CAPTURE_STREAM]	= true,
};

/*
 * Image, of a volume:
 *
 *	from	to	when
 *	CLEAN	DIRTY	a range turned dirty: TRACK, a failed write, a resize,
 *			a request, a volume that is new
 *	DIRTY	RESYNC	the group streams; RESYNC_BEGIN is in the stream
 *	RESYNC	CLEAN	no range is dirty or being read; RESYNC_END is in it
 *	RESYNC	DIRTY	STREAM was left
 */
static const bool image_legal[3][3] = {
	[REPAGENT_IMAGE_CLEAN][REPAGENT_IMAGE_DIRTY]	= true,
	[REPAGENT_IMAGE_DIRTY][REPAGENT_IMAGE_RESYNC]	= true,
	[REPAGENT_IMAGE_RESYNC][REPAGENT_IMAGE_CLEAN]	= true,
	[REPAGENT_IMAGE_RESYNC][REPAGENT_IMAGE_DIRTY]	= true,
};

/**
 * rep_event - something changed that people and programs wait for
 * @g: the group
 *
 * Context: under rep_group.lock.
 */
void rep_event(struct rep_group *g)
{
	lockdep_assert_held(&g->lock);
	WRITE_ONCE(g->events, g->events + 1);
	rep_queue_work(&g->event_work);
}

/**
 * rep_set_image - change a volume's image state
 * @v: the volume
 * @image: the new state
 * @reason: why
 *
 * Context: under rep_group.lock.
 */
void rep_set_image(struct rep_volume *v, enum repagent_image image,
		   enum repagent_reason reason)
{
	lockdep_assert_held(&v->group->lock);
	if (WARN_ON_ONCE(!image_legal[v->image][image]))
		return;
	trace_repagent_image(v, v->image, image, reason);
	v->image = image;
	v->reason = reason;
	rep_event(v->group);
}

/**
 * rep_image_dirty - some of a volume's ranges have turned dirty
 * @v: the volume
 * @reason: why
 *
 * A resync that is under way takes them along.
 *
 * Context: under rep_group.lock.
 */
void rep_image_dirty(struct rep_volume *v, enum repagent_reason reason)
{
	if (v->image == REPAGENT_IMAGE_CLEAN)
		rep_set_image(v, REPAGENT_IMAGE_DIRTY, reason);
	else
		v->reason = reason;
}

/**
 * rep_set_capture - change a group's capture state
 * @g: the group
 * @capture: the new state
 * @reason: why
 *
 * Leaving STREAM puts GAP into the stream: no record that is reserved later
 * comes before it.
 *
 * Context: under rep_group.lock.
 */
void rep_set_capture(struct rep_group *g, enum repagent_capture capture,
		     enum repagent_reason reason)
{
	int i;

	lockdep_assert_held(&g->lock);
	if (WARN_ON_ONCE(!capture_legal[g->capture][capture]))
		return;
	if (capture == REPAGENT_CAPTURE_TRACK) {
		WARN_ON_ONCE(rep_emit(g, NULL, REPAGENT_REC_GAP, reason, 0, NULL));
		g->gaps++;
		if (time_before(jiffies, g->since + 60 * HZ))
			g->flaps++;
		else
			g->flaps = 0;
		for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
			if (g->volumes[i] &&
			    g->volumes[i]->image == REPAGENT_IMAGE_RESYNC)
				rep_set_image(g->volumes[i], REPAGENT_IMAGE_DIRTY,
					      reason);
	}
	trace_repagent_capture(g, g->capture, capture, reason);
	WRITE_ONCE(g->capture, capture);
	g->reason = reason;
	g->reasons[reason]++;
	g->since = jiffies;
	rep_event(g);
}

static void event_work(struct work_struct *work)
{
	struct rep_group *g = container_of(work, struct rep_group, event_work);
	char capture[40], reason[40], *envp[] = { capture, reason, NULL };
	unsigned int noio;
	int i;

	wake_up_interruptible_poll(&g->wait, EPOLLPRI);
	noio = group_lock(g);
	if (!g->dead) {
		snprintf(capture, sizeof(capture), "REPAGENT_CAPTURE=%s",
			 rep_capture_names[READ_ONCE(g->capture)]);
		snprintf(reason, sizeof(reason), "REPAGENT_REASON=%s",
			 rep_reason_names[READ_ONCE(g->reason)]);
		kobject_uevent_env(&g->dev.kobj, KOBJ_CHANGE, envp);
	}
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		if (g->volumes[i] && g->volumes[i]->active)
			dm_table_event(g->volumes[i]->active->ti->table);
	group_unlock(g, noio);
}

/* ---- the character device ------------------------------------------------ */

static int rep_open(struct inode *inode, struct file *file)
{
	struct rep_group *g = container_of(inode->i_cdev, struct rep_group, cdev);

	/* Who cannot write is no consumer: any number may look. */
	if (!(file->f_mode & FMODE_WRITE)) {
		get_device(&g->dev);
		file->private_data = g;
		return nonseekable_open(inode, file);
	}
	if (test_and_set_bit_lock(0, &g->opened))
		return READ_ONCE(g->dead) ? -ENODEV : -EBUSY;
	get_device(&g->dev);
	file->private_data = g;
	spin_lock_irq(&g->lock);
	g->consumer = get_pid(task_tgid(current));
	strscpy(g->consumer_name, current->group_leader->comm, sizeof(g->consumer_name));
	spin_unlock_irq(&g->lock);
	return nonseekable_open(inode, file);
}

static int rep_release(struct inode *inode, struct file *file)
{
	struct rep_group *g = file->private_data;
	struct pid *consumer;

	if (file->f_mode & FMODE_WRITE) {
		spin_lock_irq(&g->lock);
		g->connected = false;
		consumer = g->consumer;
		g->consumer = NULL;
		spin_unlock_irq(&g->lock);
		put_pid(consumer);
		WRITE_ONCE(g->wait_seq, 0);
		clear_bit_unlock(0, &g->opened);
	}
	put_device(&g->dev);
	return 0;
}

static int rep_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct rep_group *g = file->private_data;

	if (!(file->f_mode & FMODE_WRITE))
		return -EACCES;
	return rep_ring_mmap(&g->ring, vma);
}

static __poll_t rep_poll(struct file *file, poll_table *wait)
{
	struct rep_group *g = file->private_data;
	__poll_t mask = 0;

	poll_wait(file, &g->wait, wait);
	if (READ_ONCE(g->dead))
		mask |= EPOLLHUP;
	if (!(file->f_mode & FMODE_WRITE))
		return mask;
	if (rep_ring_is_committed(&g->ring, READ_ONCE(g->wait_seq)))
		mask |= EPOLLIN;
	if (READ_ONCE(g->events) != READ_ONCE(g->wait_events))
		mask |= EPOLLPRI;
	return mask;
}

static void get_info(struct rep_group *g, struct repagent_info *info)
{
	int i;

	mutex_lock(&g->mutex);
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		if (g->volumes[i])
			info->nr_volumes++;
	mutex_unlock(&g->mutex);

	mutex_lock(&g->consumer_lock);
	info->committed = rep_committed(g);
	mutex_unlock(&g->consumer_lock);

	info->abi_version = REPAGENT_ABI_VERSION;
	info->incarnation = g->ring.incarnation;
	info->map_size = g->ring.hdr->map_size;
	info->payload_size = g->ring.payload_size;
	strscpy(info->group, g->name, sizeof(info->group));
	spin_lock_irq(&g->lock);
	info->capture = g->capture;
	info->reason = g->reason;
	info->head = g->ring.head;
	info->acked = g->ring.acked;
	info->payload_used = g->ring.payload_head - g->ring.payload_tail;
	info->events = g->events;
	info->gaps = g->gaps;
	spin_unlock_irq(&g->lock);
}

static int get_volume(struct rep_group *g, struct repagent_volume_info *info)
{
	u32 index = info->index;
	struct rep_volume *v;
	u64 busy;

	if (index >= REPAGENT_MAX_VOLUMES)
		return -EINVAL;
	mutex_lock(&g->consumer_lock);
	busy = rep_committed(g) + 1;
	mutex_unlock(&g->consumer_lock);

	mutex_lock(&g->mutex);
	v = g->volumes[index];
	if (!v) {
		mutex_unlock(&g->mutex);
		return -ENOENT;
	}
	memset(info, 0, sizeof(*info));
	info->index = index;
	info->id = v->id;
	info->active = !!v->active;
	strscpy(info->name, v->name, sizeof(info->name));
	spin_lock_irq(&g->lock);
	info->image = v->image;
	info->reason = v->reason;
	info->sectors = v->dirty.sectors;
	info->dirty = rep_dirty_sectors(&v->dirty);
	if (v->image == REPAGENT_IMAGE_RESYNC)
		info->resync_left = info->dirty + v->read_sectors;
	info->failed = v->failed;
	info->resyncs = v->resyncs;
	info->reach = info->sectors;
	if (g->ring.acked < v->reach_seq)
		info->reach = max(info->reach, v->reach);
	if (g->ring.acked < v->map_until) {
		info->map_incarnation = v->map_incarnation;
		info->map_seq = v->map_seq;
	}
	info->map_error = -rep_map_error(v->map);
	if (busy < g->ring.head &&
	    g->ring.slots[busy & (g->ring.nr_slots - 1)].volume == v->id)
		info->busy_seq = busy;
	spin_unlock_irq(&g->lock);
	mutex_unlock(&g->mutex);
	return 0;
}

static int get_dirty(struct rep_group *g, struct repagent_dirty *d)
{
	int i, err = -ENOENT;

	if (d->reserved)
		return -EINVAL;
	mutex_lock(&g->mutex);
	for (i = 0; i < REPAGENT_MAX_VOLUMES && err; i++) {
		if (g->volumes[i] && g->volumes[i]->id == d->volume) {
			rep_dirty_ranges(g->volumes[i], d);
			err = 0;
		}
	}
	mutex_unlock(&g->mutex);
	return err;
}

static int set_hub(struct rep_group *g, const struct repagent_hub *hub)
{
	if (hub->incarnation != g->ring.incarnation || hub->connected > 1)
		return -EINVAL;
	if (hub->connected && hub->reason != REPAGENT_REASON_NONE)
		return -EINVAL;
	switch (hub->reason) {
	case REPAGENT_REASON_NONE:
	case REPAGENT_REASON_HUB_REFUSED:
	case REPAGENT_REASON_HUB_FULL:
	case REPAGENT_REASON_FENCED:
	case REPAGENT_REASON_PAUSED:
		break;
	default:
		return -EINVAL;
	}
	spin_lock_irq(&g->lock);
	g->connected = hub->connected;
	if (hub->reason != REPAGENT_REASON_NONE) {
		if (g->capture == REPAGENT_CAPTURE_STREAM) {
			rep_set_capture(g, REPAGENT_CAPTURE_TRACK, hub->reason);
		} else if (g->reason != hub->reason) {
			g->reason = hub->reason;
			g->reasons[hub->reason]++;
			rep_event(g);
		}
	}
	spin_unlock_irq(&g->lock);
	rep_resync_kick(g);
	return 0;
}

static int emit(struct rep_group *g, struct repagent_emit *e)
{
	struct rep_volume *v = NULL;
	int i, err;

	e->seq = 0;
	if (e->reserved)
		return -EINVAL;
	switch (e->type) {
	case REPAGENT_REC_CHECKPOINT:
		if (!e->label[0] || strnlen(e->label, sizeof(e->label)) == sizeof(e->label))
			return -EINVAL;
		return rep_emit_checkpoint(g, e->label, &e->seq);
	case REPAGENT_REC_SHUTDOWN:
		spin_lock_irq(&g->lock);
		err = -EAGAIN;
		if (g->capture == REPAGENT_CAPTURE_STREAM)
			err = rep_emit(g, NULL, REPAGENT_REC_SHUTDOWN, 0, 0, &e->seq);
		spin_unlock_irq(&g->lock);
		return err;
	case REPAGENT_REC_VERIFY:
		mutex_lock(&g->mutex);
		for (i = 0; i < REPAGENT_MAX_VOLUMES && !v; i++)
			if (g->volumes[i] && g->volumes[i]->id == e->volume)
				v = g->volumes[i];
		err = v ? rep_verify(v, e->sector, e->nr_sectors) : -ENOENT;
		mutex_unlock(&g->mutex);
		return err;
	default:
		return -EINVAL;
	}
}

static void reap(struct rep_group *g);

static long ioctl_ack(struct rep_group *g, const struct repagent_ack *ack)
{
	bool lingering = false;
	int i, err;

	if (ack->incarnation != g->ring.incarnation)
		return -EINVAL;
	mutex_lock(&g->consumer_lock);
	err = rep_ack(g, ack->seq);
	mutex_unlock(&g->consumer_lock);
	if (err)
		return err;

	spin_lock_irq(&g->lock);
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		if (g->volumes[i] && !g->volumes[i]->active)
			lingering = true;
	spin_unlock_irq(&g->lock);
	if (lingering) {
		mutex_lock(&rep_groups_lock);
		if (g->registered)
			reap(g);
		mutex_unlock(&rep_groups_lock);
	}
	rep_resync_kick(g);
	return 0;
}

static long ioctl_wait(struct rep_group *g, const struct repagent_wait *wait)
{
	WRITE_ONCE(g->wait_events, wait->events);
	WRITE_ONCE(g->wait_seq, wait->seq);
	smp_mb();	/* pairs with smp_mb() in rep_commit() */
	return rep_ring_is_committed(&g->ring, wait->seq) ||
	       READ_ONCE(g->events) != wait->events;
}

static long rep_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct rep_group *g = file->private_data;
	void __user *p = (void __user *)arg;
	union {
		struct repagent_info		info;
		struct repagent_volume_info	volume;
		struct repagent_ack		ack;
		struct repagent_wait		wait;
		struct repagent_hub		hub;
		struct repagent_emit		emit;
		struct repagent_dirty		dirty;
	} u;
	long ret;

	switch (cmd) {
	case REPAGENT_IOC_INFO:
	case REPAGENT_IOC_VOLUME:
	case REPAGENT_IOC_DIRTY:
		break;
	case REPAGENT_IOC_HUB:
	case REPAGENT_IOC_ACK:
	case REPAGENT_IOC_WAIT:
	case REPAGENT_IOC_EMIT:
		if (!(file->f_mode & FMODE_WRITE))
			return -EBADF;
		break;
	default:
		return -ENOTTY;
	}
	if (READ_ONCE(g->dead))
		return -ENODEV;
	memset(&u, 0, sizeof(u));
	if ((_IOC_DIR(cmd) & _IOC_WRITE) && copy_from_user(&u, p, _IOC_SIZE(cmd)))
		return -EFAULT;

	switch (cmd) {
	case REPAGENT_IOC_INFO:
		get_info(g, &u.info);
		ret = 0;
		break;
	case REPAGENT_IOC_VOLUME:
		ret = get_volume(g, &u.volume);
		break;
	case REPAGENT_IOC_DIRTY:
		ret = get_dirty(g, &u.dirty);
		break;
	case REPAGENT_IOC_HUB:
		ret = set_hub(g, &u.hub);
		break;
	case REPAGENT_IOC_ACK:
		ret = ioctl_ack(g, &u.ack);
		break;
	case REPAGENT_IOC_WAIT:
		ret = ioctl_wait(g, &u.wait);
		break;
	default:
		ret = emit(g, &u.emit);
		break;
	}
	if (ret >= 0 && (_IOC_DIR(cmd) & _IOC_READ) &&
	    copy_to_user(p, &u, _IOC_SIZE(cmd)))
		return -EFAULT;
	return ret;
}

static const struct file_operations rep_fops = {
	.owner		= THIS_MODULE,
	.open		= rep_open,
	.release	= rep_release,
	.mmap		= rep_mmap,
	.poll		= rep_poll,
	.unlocked_ioctl	= rep_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

static char *rep_devnode(REP_DEVNODE_CONST struct device *dev, umode_t *mode)
{
	if (mode)
		*mode = 0600;
	return kasprintf(GFP_KERNEL, "repagent/%s", dev_name(dev));
}

/* ---- attributes: /sys/class/repagent/<group>/ ---------------------------- */

/*
 * Taking a group's device away waits for the methods of its attributes, and is
 * done under rep_groups_lock: so none of them may wait for that lock.
 */

static struct rep_group *group_of(struct device *dev)
{
	return container_of(dev, struct rep_group, dev);
}

/* "<capture> <reason>" */
static ssize_t state_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct rep_group *g = group_of(dev);
	enum repagent_capture capture;
	enum repagent_reason reason;

	spin_lock_irq(&g->lock);
	capture = g->capture;
	reason = g->reason;
	spin_unlock_irq(&g->lock);
	return sysfs_emit(buf, "%s %s\n", rep_capture_names[capture],
			  rep_reason_names[reason]);
}
static DEVICE_ATTR_RO(state);

static ssize_t incarnation_show(struct device *dev, struct device_attribute *attr,
				char *buf)
{
	return sysfs_emit(buf, "%016llx\n", group_of(dev)->ring.incarnation);
}
static DEVICE_ATTR_RO(incarnation);

/* "<used>/<size> <last seq> <acked seq>", as in the status line */
static ssize_t ring_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct rep_group *g = group_of(dev);
	u64 used, head, acked;

	spin_lock_irq(&g->lock);
	used = g->ring.payload_head - g->ring.payload_tail;
	head = g->ring.head;
	acked = g->ring.acked;
	spin_unlock_irq(&g->lock);
	return sysfs_emit(buf, "%llu/%llu %llu %llu\n", used >> SECTOR_SHIFT,
			  g->ring.payload_size >> SECTOR_SHIFT, head - 1, acked);
}
static DEVICE_ATTR_RO(ring);

/* A line for each: "<volume> active|loaded|lingering"; all fit into the page. */
static ssize_t volumes_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct rep_group *g = group_of(dev);
	int i, len = 0;

	mutex_lock(&g->mutex);
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		struct rep_volume *v = g->volumes[i];

		if (v)
			len += sysfs_emit_at(buf, len, "%s %s\n", v->name,
					     v->active ? "active" :
					     v->refs ? "loaded" : "lingering");
	}
	mutex_unlock(&g->mutex);
	return len;
}
static DEVICE_ATTR_RO(volumes);

/* Who has the group open. Returns its process id, as the caller sees it, or 0. */
static pid_t get_consumer(struct rep_group *g, char *name)
{
	pid_t pid;

	spin_lock_irq(&g->lock);
	pid = pid_vnr(g->consumer);
	/* a process can have an empty name */
	strscpy(name, !g->consumer ? "" : *g->consumer_name ? g->consumer_name : "?",
		TASK_COMM_LEN);
	spin_unlock_irq(&g->lock);
	return pid;
}

/* "<process id> <program>", the id 0 if it is beyond the reader's namespace; or "none" */
static ssize_t consumer_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	char name[TASK_COMM_LEN];
	pid_t pid = get_consumer(group_of(dev), name);

	if (!*name)
		return sysfs_emit(buf, "none\n");
	return sysfs_emit(buf, "%d %s\n", pid, name);
}
static DEVICE_ATTR_RO(consumer);

/* Under rep_groups_lock: what keeps a group's volumes is let go. */
static void let_go(struct rep_group *g)
{
	u64 left;
	int i;

	spin_lock_irq(&g->lock);
	left = g->ring.head - 1 - g->ring.acked;
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		if (g->volumes[i])
			g->volumes[i]->remove_seq = 0;
	spin_unlock_irq(&g->lock);
	DMWARN("group %s goes, with %llu records that were not acknowledged", g->name, left);
}

/*
 * Under rep_groups_lock, from the store of @attr. 0: the group is gone, but for
 * the caller's way out.
 */
static int group_forget(struct rep_group *g, struct device_attribute *attr)
{
	char name[TASK_COMM_LEN];
	int i, err = 0;
	pid_t pid;

	/* As if this were the consumer: no other can come in between. */
	if (test_and_set_bit_lock(0, &g->opened)) {
		pid = get_consumer(g, name);
		DMERR("forget: group %s is in use: process %d (%s) has it open; stop that first",
		      g->name, pid, name);
		return -EBUSY;
	}
	/* New targets come under rep_groups_lock too. */
	mutex_lock(&g->mutex);
	for (i = 0; i < REPAGENT_MAX_VOLUMES && !err; i++) {
		struct rep_volume *v = g->volumes[i];

		if (!v || !v->refs)
			continue;
		DMERR("forget: group %s is in use: %s is its volume %s; remove that device first",
		      g->name, dm_device_name(v->md), v->name);
		err = -EBUSY;
	}
	mutex_unlock(&g->mutex);
	if (err) {
		clear_bit_unlock(0, &g->opened);
		return err;
	}
	/* Whoever takes the device away would wait for this very method. */
	if (!device_remove_file_self(&g->dev, attr))
		return -ENODEV;
	let_go(g);
	reap(g);
	rep_forgot = true;
	return 0;
}

/* Removes a lingering group and its records. Takes the group's name or incarnation. */
static ssize_t forget_store(struct device *dev, struct device_attribute *attr,
			    const char *buf, size_t count)
{
	struct rep_group *g = group_of(dev);
	char incarnation[17];
	int err;

	snprintf(incarnation, sizeof(incarnation), "%016llx", g->ring.incarnation);
	if (!sysfs_streq(buf, g->name) && !sysfs_streq(buf, incarnation)) {
		DMERR("forget \"%.*s\": expected the group's name, %s, or its incarnation, %s",
		      min_t(int, 40, strcspn(buf, "\n")), buf, g->name, incarnation);
		return -EINVAL;
	}
	/* The module must not go while its code takes its own attribute away. */
	if (!try_module_get(THIS_MODULE))
		return -ENODEV;
	if (!mutex_trylock(&rep_groups_lock)) {
		module_put(THIS_MODULE);
		msleep(5);
		return restart_syscall();
	}
	err = group_forget(g, attr);
	mutex_unlock(&rep_groups_lock);
	module_put(THIS_MODULE);
	return err ?: count;
}
static DEVICE_ATTR_WO(forget);

static struct attribute *rep_group_attrs[] = {
	&dev_attr_state.attr,
	&dev_attr_incarnation.attr,
	&dev_attr_ring.attr,
	&dev_attr_volumes.attr,
	&dev_attr_consumer.attr,
	&dev_attr_forget.attr,
	NULL
};
ATTRIBUTE_GROUPS(rep_group);

static struct class rep_class = {
	.name		= "repagent",
	.devnode	= rep_devnode,
	.dev_groups	= rep_group_groups,
};

/* ---- groups -------------------------------------------------------------- */

/* The last reference to a group's device is gone, its file is closed. */
static void group_release(struct device *dev)
{
	struct rep_group *g = container_of(dev, struct rep_group, dev);

	rep_resync_exit(g);
	cancel_work_sync(&g->event_work);
	rep_ring_exit(&g->ring);
	if (g->dev.devt)
		ida_free(&rep_minors, MINOR(g->dev.devt));
	mutex_destroy(&g->mutex);
	mutex_destroy(&g->consumer_lock);
	kfree(g);
}

static struct rep_group *group_find(const char *name)
{
	struct rep_group *g;

	list_for_each_entry(g, &rep_groups, list)
		if (!strcmp(g->name, name))
			return g;
	return NULL;
}

/* Take a group that has no volumes from the world. Under rep_groups_lock. */
static void group_unregister(struct rep_group *g)
{
	list_del(&g->list);
	g->registered = false;
	cdev_device_del(&g->cdev, &g->dev);
	wake_up_interruptible_poll(&g->wait, EPOLLHUP);
}

static struct rep_group *group_create(const char *name, unsigned int mib,
				      char **error)
{
	struct rep_group *g;
	int minor, err;

	g = kzalloc(sizeof(*g), GFP_KERNEL);
	if (!g) {
		*error = "no memory for the group";
		return ERR_PTR(-ENOMEM);
	}
	strscpy(g->name, name, sizeof(g->name));
	g->ring_mib = mib;
	g->next_id = 1;
	g->since = jiffies - 3600 * HZ;
	g->reason = REPAGENT_REASON_FIRST_SYNC;
	mutex_init(&g->mutex);
	mutex_init(&g->consumer_lock);
	spin_lock_init(&g->lock);
	init_waitqueue_head(&g->idle);
	init_waitqueue_head(&g->wait);
	INIT_WORK(&g->event_work, event_work);

	err = rep_ring_init(&g->ring, mib);
	if (err) {
		*error = err == -ENOSPC ?
			"the ring would exceed the module's ring_total_mib" :
			"no memory for the ring";
		kfree(g);
		return ERR_PTR(err);
	}
	err = rep_resync_init(g);
	if (err) {
		*error = "no memory for the group's resync";
		rep_ring_exit(&g->ring);
		kfree(g);
		return ERR_PTR(err);
	}

	minor = ida_alloc_max(&rep_minors, REP_MINORS - 1, GFP_KERNEL);
	if (minor < 0) {
		*error = "too many groups";
		rep_resync_exit(g);
		rep_ring_exit(&g->ring);
		kfree(g);
		return ERR_PTR(minor);
	}
	device_initialize(&g->dev);
	g->dev.class = &rep_class;
	g->dev.release = group_release;
	g->dev.devt = MKDEV(MAJOR(rep_devt), minor);
	cdev_init(&g->cdev, &rep_fops);
	g->cdev.owner = THIS_MODULE;
	err = dev_set_name(&g->dev, "%s", name);
	if (!err)
		err = cdev_device_add(&g->cdev, &g->dev);
	if (err) {
		*error = "the group's character device could not be made";
		put_device(&g->dev);
		return ERR_PTR(err);
	}
	g->registered = true;
	list_add_tail(&g->list, &rep_groups);
	return g;
}

/**
 * rep_group_uuid - the uuid that the maps of a group's volumes share
 * @g: the group; it takes the one in @uuid if it has none
 * @uuid: in: what a map has, or zeroes; out: the group's
 *
 * Context: process; takes rep_group.lock.
 */
void rep_group_uuid(struct rep_group *g, u8 *uuid)
{
	spin_lock_irq(&g->lock);
	if (!memchr_inv(g->uuid, 0, sizeof(g->uuid))) {
		if (memchr_inv(uuid, 0, sizeof(g->uuid)))
			memcpy(g->uuid, uuid, sizeof(g->uuid));
		else
			generate_random_uuid(g->uuid);
	}
	memcpy(uuid, g->uuid, sizeof(g->uuid));
	spin_unlock_irq(&g->lock);
}

/* ---- volumes ------------------------------------------------------------- */

/**
 * rep_volume_queue - ranges whose turn has come are run by the worker
 * @v: the volume
 * @ranges: a list of rep_range.queue; empty afterwards
 *
 * Context: any; takes queue_lock.
 */
void rep_volume_queue(struct rep_volume *v, struct list_head *ranges)
{
	unsigned long flags;

	spin_lock_irqsave(&v->queue_lock, flags);
	list_splice_tail_init(ranges, &v->granted);
	/* Under the lock: once the last range has run, the volume may go. */
	queue_work(v->wq, &v->work);
	spin_unlock_irqrestore(&v->queue_lock, flags);
}

static void volume_work(struct work_struct *work)
{
	struct rep_volume *v = container_of(work, struct rep_volume, work);
	struct rep_range *range, *next;
	LIST_HEAD(ranges);

	spin_lock_irq(&v->queue_lock);
	list_splice_init(&v->granted, &ranges);
	spin_unlock_irq(&v->queue_lock);
	list_for_each_entry_safe(range, next, &ranges, queue)
		range->granted(range);
}

static void volume_free(struct rep_volume *v)
{
	destroy_workqueue(v->wq);
	bioset_exit(&v->bounce_bios);
	rep_dirty_exit(&v->dirty);
	kvfree(v);
}

static struct rep_volume *volume_create(struct rep_group *g, const char *name,
					char **error)
{
	struct rep_volume *v;
	int i = 0;

	while (i < REPAGENT_MAX_VOLUMES && g->volumes[i])
		i++;
	if (i == REPAGENT_MAX_VOLUMES || g->next_id == U16_MAX) {
		DMERR("volume \"%s\": group %s has no place for it", name, g->name);
		*error = "the group has as many volumes as it can have: expected at most 64";
		return ERR_PTR(-ENOSPC);
	}
	v = kvzalloc(sizeof(*v), GFP_KERNEL);
	if (v)
		v->wq = alloc_workqueue("rep/%s", WQ_MEM_RECLAIM | WQ_UNBOUND |
					WQ_HIGHPRI, 1, name);
	if (!v || !v->wq || bioset_init(&v->bounce_bios, 4, 0, BIOSET_NEED_BVECS)) {
		if (v && v->wq)
			destroy_workqueue(v->wq);
		kvfree(v);
		*error = "no memory for the volume";
		return ERR_PTR(-ENOMEM);
	}
	v->group = g;
	strscpy(v->name, name, sizeof(v->name));
	v->id = g->next_id++;
	v->image = REPAGENT_IMAGE_DIRTY;
	v->reason = REPAGENT_REASON_FIRST_SYNC;
	v->stopped = true;
	rep_intervals_init(v);
	spin_lock_init(&v->queue_lock);
	INIT_LIST_HEAD(&v->granted);
	INIT_WORK(&v->work, volume_work);
	spin_lock_irq(&g->lock);
	g->volumes[i] = v;
	spin_unlock_irq(&g->lock);
	return v;
}

/*
 * Free the volumes that nobody needs any more, and the group with the last.
 * Under rep_groups_lock. The group may be gone afterwards unless the caller
 * has a reference to its device.
 */
static void reap(struct rep_group *g)
{
	struct rep_volume *gone[REPAGENT_MAX_VOLUMES];
	int i, nr_gone = 0, left = 0;

	mutex_lock(&g->mutex);
	spin_lock_irq(&g->lock);
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		struct rep_volume *v = g->volumes[i];

		if (!v)
			continue;
		if (v->refs || g->ring.acked < v->remove_seq) {
			left++;
			continue;
		}
		/* Never activated, so nobody saw the id: it can be given again. */
		if (!v->dirty.sectors && v->id == g->next_id - 1)
			g->next_id--;
		gone[nr_gone++] = v;
		g->volumes[i] = NULL;
	}
	if (nr_gone)
		rep_event(g);
	spin_unlock_irq(&g->lock);
	if (!left)
		WRITE_ONCE(g->dead, true);
	mutex_unlock(&g->mutex);

	for (i = 0; i < nr_gone; i++)
		volume_free(gone[i]);
	if (!left) {
		group_unregister(g);
		put_device(&g->dev);
	}
}

static bool has_device(const struct rep_target *t, const struct dm_dev *dev)
{
	return t->origin->bdev == dev->bdev || (t->meta && t->meta->bdev == dev->bdev);
}

/**
 * rep_volume_attach - join a target to its volume
 * @t: the target; its ti->error is set on failure
 * @group: the group's name
 * @name: the volume's name
 * @md: the mapped device that the target is for
 *
 * The group and the volume are made if they do not exist.
 *
 * Context: process, from ctr.
 * Return: 0 with @t->volume set, or a negative errno.
 */
int rep_volume_attach(struct rep_target *t, const char *group, const char *name,
		      struct mapped_device *md)
{
	struct rep_target *other;
	struct rep_volume *v = NULL;
	struct rep_group *g;
	unsigned int noio;
	int i, err = 0;

	mutex_lock(&rep_groups_lock);
	/* What one of two writes, the other would not ship, or would take for its map. */
	list_for_each_entry(other, &rep_targets, list) {
		if (other->volume->md == md)
			continue;
		if (t->meta && has_device(other, t->meta)) {
			DMERR("meta %pg is a device of %s (%s/%s) already", t->meta->bdev,
			      dm_device_name(other->volume->md), other->volume->group->name,
			      other->volume->name);
			t->ti->error = "meta: another repagent device has it already; expected a device of its own";
			err = -EBUSY;
			goto out;
		}
		if (!has_device(other, t->origin))
			continue;
		DMERR("origin %pg is the %s of %s (%s/%s) already", t->origin->bdev,
		      other->origin->bdev == t->origin->bdev ? "origin" : "meta device",
		      dm_device_name(other->volume->md), other->volume->group->name,
		      other->volume->name);
		t->ti->error = "origin device: another repagent device has it already; expected an origin of its own";
		err = -EBUSY;
		goto out;
	}
	g = group_find(group);
	if (!g) {
		g = group_create(group, t->ring_mib ?: 64, &t->ti->error);
		if (IS_ERR(g)) {
			err = PTR_ERR(g);
			goto out;
		}
	} else if (t->ring_mib && t->ring_mib != g->ring_mib) {
		DMERR("ring %u: the group's ring has %u MiB, as its first volume said",
		      t->ring_mib, g->ring_mib);
		t->ti->error = "ring differs from the size that the group's first volume gave";
		err = -EINVAL;
		goto out;
	}

	noio = group_lock(g);
	for (i = 0; i < REPAGENT_MAX_VOLUMES && !v; i++)
		if (g->volumes[i] && !strcmp(g->volumes[i]->name, name))
			v = g->volumes[i];
	if (!v)
		v = volume_create(g, name, &t->ti->error);
	if (IS_ERR(v)) {
		err = PTR_ERR(v);
	} else if (v->refs && v->md != md) {
		DMERR("%s/%s is the volume of %s", group, name,
		      dm_device_name(v->md));
		t->ti->error = "another device is this volume of the group";
		err = -EBUSY;
	} else {
		v->refs++;
		v->md = md;
		t->volume = v;
		list_add_tail(&t->list, &rep_targets);
	}
	group_unlock(g, noio);
	if (err)
		reap(g);
out:
	mutex_unlock(&rep_groups_lock);
	return err;
}

/**
 * rep_volume_detach - a target is going away
 * @t: the target
 *
 * If it is the one that mapped, the volume's device is gone or is something
 * else now; what it holds will not be known any more.
 *
 * Context: process, from dtr.
 */
void rep_volume_detach(struct rep_target *t)
{
	struct rep_volume *v = t->volume;
	struct rep_group *g = v->group;
	struct rep_map *map = t->map;

	mutex_lock(&rep_groups_lock);
	list_del(&t->list);
	mutex_lock(&g->mutex);
	if (v->active == t) {
		spin_lock_irq(&g->lock);
		v->active = NULL;
		v->map = NULL;
		v->stopped = true;
		v->remove_seq = 0;
		if (g->capture == REPAGENT_CAPTURE_STREAM &&
		    rep_emit(g, v, REPAGENT_REC_VOLUME_REMOVE, 0, 0, &v->remove_seq))
			rep_set_capture(g, REPAGENT_CAPTURE_TRACK,
					REPAGENT_REASON_RING_FULL);
		if (g->capture == REPAGENT_CAPTURE_TRACK)
			v->remove_seq = REP_REMOVE_OWED;
		if (!map)
			rep_dirty_set_all(&v->dirty);
		if (v->image == REPAGENT_IMAGE_RESYNC)
			rep_set_image(v, REPAGENT_IMAGE_DIRTY, REPAGENT_REASON_NO_MAP);
		else
			rep_image_dirty(v, REPAGENT_REASON_NO_MAP);
		rep_event(g);
		spin_unlock_irq(&g->lock);
	} else if (map == v->map) {
		map = NULL;	/* it went over to the table that maps now */
	}
	v->refs--;
	mutex_unlock(&g->mutex);
	/* It belongs to the volume, which may go now. */
	rep_map_free(map);
	t->map = NULL;
	reap(g);
	mutex_unlock(&rep_groups_lock);
}

/**
 * rep_volume_require_resync - somebody asks for all of a volume to be read again
 * @t: the live target; the caller keeps it from going
 *
 * Context: process; takes rep_group.lock.
 */
void rep_volume_require_resync(struct rep_target *t)
{
	struct rep_volume *v = t->volume;
	bool active;

	spin_lock_irq(&v->group->lock);
	/* Else its resume does it: until then its map is not the volume's. */
	active = v->active == t;
	v->wants_resync = !active;
	if (active) {
		rep_dirty_set_all(&v->dirty);
		rep_image_dirty(v, REPAGENT_REASON_REQUESTED);
		rep_resync_restart(v);
	}
	spin_unlock_irq(&v->group->lock);
	if (!active)
		return;
	if (t->map)
		rep_map_set_all(t->map);
	rep_resync_kick(v->group);
}

static u64 origin_writes(struct rep_target *t)
{
	return part_stat_read(t->origin->bdev, sectors[STAT_WRITE]) +
	       part_stat_read(t->origin->bdev, sectors[STAT_DISCARD]);
}

/**
 * rep_volume_suspended - a target has stopped to map, all its writes are done
 * @t: the target
 *
 * Context: process, from postsuspend.
 */
void rep_volume_suspended(struct rep_target *t)
{
	struct rep_volume *v = t->volume;
	unsigned int noio;

	rep_resync_wait(v);
	v->origin_writes = origin_writes(t);
	if (v->active == t && v->map) {
		/* The VM's disk stands still. */
		noio = memalloc_noio_save();
		rep_map_stop(v, v->origin_writes);
		memalloc_noio_restore(noio);
	}
}

/**
 * rep_volume_activate - a target is about to map its volume
 * @t: the target; its @dirty is what ctr made for its size
 *
 * A device that comes back from another table, or with another origin, or whose
 * origin was written to while it was suspended, cannot be trusted: all of it is
 * dirty. RESYNC_BEGIN comes before any write that is still to come.
 *
 * Context: process, from preresume; cannot fail.
 */
void rep_volume_activate(struct rep_target *t)
{
	struct rep_volume *v = t->volume;
	struct rep_group *g = v->group;
	sector_t old = v->dirty.sectors;
	bool joins = !v->active;
	struct rep_map *left = joins ? NULL : v->map;
	bool ok = true, clean = false, wanted;
	bool mapped = joins && t->map && rep_map_trusted(t->map, origin_writes(t));
	u64 rests_on = 0, rests_on_seq = 0;
	bool all = joins ? !mapped : v->active->origin->bdev != t->origin->bdev ||
				     v->origin_writes != origin_writes(t);

	if (mapped)
		rests_on = rep_map_durable(t->map, &rests_on_seq);
	/* Only this device's methods change what active and map are. */
	if (t->map)
		rep_map_start(t, all);
	if (left && left != t->map)
		rep_map_leave(left, t->map);
	mutex_lock(&g->mutex);
	spin_lock_irq(&g->lock);
	if (v->active != t) {
		if (t->dirty.sectors < old) {
			v->reach = g->ring.acked < v->reach_seq ? max(v->reach, old) : old;
			v->reach_seq = g->ring.head - 1;
		}
		if (t->dirty.sectors != old)
			rep_dirty_resize(&v->dirty, &t->dirty);
		if (old && t->dirty.sectors != v->dirty.sectors && !joins)
			rep_image_dirty(v, REPAGENT_REASON_RESIZED);
	}
	if (all) {
		rep_dirty_set_all(&v->dirty);
		rep_image_dirty(v, old ? REPAGENT_REASON_NO_MAP :
				REPAGENT_REASON_FIRST_SYNC);
		rep_resync_restart(v);
	} else if (mapped) {
		rep_dirty_clear_all(&v->dirty);
		clean = rep_map_dirty(t->map, &v->dirty);
		rep_image_dirty(v, clean ? REPAGENT_REASON_NONE : REPAGENT_REASON_UNCLEAN);
		rep_resync_restart(v);
	}
	if (joins) {
		v->map_incarnation = rests_on;
		v->map_seq = rests_on_seq;
		v->map_until = g->ring.head;
	}
	if (g->capture == REPAGENT_CAPTURE_INIT)
		g->reason = v->reason;
	v->map = t->map;
	v->active = t;
	v->stopped = false;
	v->remove_seq = 0;
	wanted = v->wants_resync;
	v->wants_resync = false;
	if (g->capture == REPAGENT_CAPTURE_STREAM) {
		if (joins)
			ok = !rep_emit(g, v, REPAGENT_REC_VOLUME_ADD, 0,
				       v->dirty.sectors, NULL);
		else if (old != v->dirty.sectors)
			ok = !rep_emit(g, v, REPAGENT_REC_VOLUME_RESIZE, 0,
				       v->dirty.sectors, NULL);
		if (!ok || !rep_begin_resyncs(g))
			rep_set_capture(g, REPAGENT_CAPTURE_TRACK,
					REPAGENT_REASON_RING_FULL);
	}
	rep_event(g);
	spin_unlock_irq(&g->lock);
	mutex_unlock(&g->mutex);
	if (t->map)
		rep_map_go(t->map);
	if (wanted)
		rep_volume_require_resync(t);
	rep_resync_kick(g);
}

/* ---- module -------------------------------------------------------------- */

/**
 * rep_groups_init - register the character devices' class and numbers
 *
 * Return: 0 or a negative errno.
 */
int __init rep_groups_init(void)
{
	int err = alloc_chrdev_region(&rep_devt, 0, REP_MINORS, "repagent");

	if (err)
		return err;
	err = class_register(&rep_class);
	if (err)
		unregister_chrdev_region(rep_devt, REP_MINORS);
	return err;
}

/**
 * rep_groups_exit - undo rep_groups_init(); lingering groups go
 */
void rep_groups_exit(void)
{
	struct rep_group *g, *next;

	mutex_lock(&rep_groups_lock);
	list_for_each_entry_safe(g, next, &rep_groups, list) {
		let_go(g);
		reap(g);
	}
	mutex_unlock(&rep_groups_lock);
	/*
	 * Nobody waited for the method that took its own attribute away. It has
	 * given the module back, but may not have left its code.
	 */
	if (rep_forgot)
		synchronize_rcu_tasks();
	class_unregister(&rep_class);
	unregister_chrdev_region(rep_devt, REP_MINORS);
	ida_destroy(&rep_minors);
}
