// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does what no module is to do, when it is loaded: tests/uml/test-vehicle.sh sees whether
 * that is noticed. The parameter says what.
 */
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>

static char *bug = "none";
module_param(bug, charp, 0);
MODULE_PARM_DESC(bug, "none, sleep, order or list");

static DEFINE_SPINLOCK(spin);
static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);

/* It would hang only if another one did the same the other way round, at this moment. */
static void in_order(struct mutex *a, struct mutex *b)
{
	mutex_lock(a);
	mutex_lock(b);
	mutex_unlock(b);
	mutex_unlock(a);
}

static void remove_twice(void)
{
	LIST_HEAD(list);
	struct list_head entry;

	list_add(&entry, &list);
	list_del(&entry);
	list_del(&entry);
}

static int __init planted_init(void)
{
	if (!strcmp(bug, "sleep")) {
		spin_lock(&spin);
		mutex_lock(&first);
		mutex_unlock(&first);
		spin_unlock(&spin);
	} else if (!strcmp(bug, "order")) {
		in_order(&first, &second);
		in_order(&second, &first);
	} else if (!strcmp(bug, "list")) {
		remove_twice();
	} else if (strcmp(bug, "none")) {
		return -EINVAL;
	}
	return 0;
}
module_init(planted_init);

static void __exit planted_exit(void)
{
}
module_exit(planted_exit);

MODULE_DESCRIPTION("bugs that the kernel is to notice");
MODULE_LICENSE("GPL");
