/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What differs between the kernels that the module is built for. The REP_HAVE_*
 * words come from compat-probe, which asks the compiler and not the version:
 * stable kernels take API changes along.
 */
#ifndef DM_REPAGENT_COMPAT_H
#define DM_REPAGENT_COMPAT_H

#include <linux/blkdev.h>
#include <linux/mm.h>
#include <linux/workqueue.h>
#include "compat-config.h"

/* class.devnode takes a const device. */
#ifdef REP_HAVE_CONST_DEVNODE
#define REP_DEVNODE_CONST const
#else
#define REP_DEVNODE_CONST
#endif

static inline void rep_vm_flags_mod(struct vm_area_struct *vma,
				    unsigned long set, unsigned long clear)
{
#ifdef REP_HAVE_VM_FLAGS_MOD
	vm_flags_mod(vma, set, clear);
#else
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
#endif
}

static inline void rep_bio_copy_hint(struct bio *to, const struct bio *from)
{
#ifdef REP_HAVE_BIO_WRITE_HINT
	to->bi_write_hint = from->bi_write_hint;
#endif
}

/*
 * The pages under a write must not change. Older kernels ask the target, newer
 * ones its limits.
 */
static inline void rep_need_stable_writes(struct dm_target *ti,
					  struct queue_limits *limits)
{
#ifdef REP_HAVE_TARGET_STABLE_WRITES
	ti->needs_stable_writes = true;
#else
	limits->features |= BLK_FEAT_STABLE_WRITES;
#endif
}

/* Where there is no device below that says no, dm offers what the target does not do. */
static inline void rep_no_devices_below(struct queue_limits *limits)
{
#ifdef REP_HAVE_FEAT_POLL
	limits->features &= ~BLK_FEAT_POLL;
#endif
#ifdef REP_HAVE_WZEROES_UNMAP
	limits->max_hw_wzeroes_unmap_sectors = 0;
#endif
}

/* Work that may run anywhere, and for long. Newer kernels complain about the old name. */
#ifdef REP_HAVE_SYSTEM_DFL_WQ
#define rep_long_wq system_dfl_wq
#else
#define rep_long_wq system_unbound_wq
#endif

static inline bool rep_queue_work(struct work_struct *work)
{
	return queue_work(rep_long_wq, work);
}

static inline bool rep_queue_delayed_work(struct delayed_work *work, unsigned long delay)
{
	return queue_delayed_work(rep_long_wq, work, delay);
}

#endif /* DM_REPAGENT_COMPAT_H */
