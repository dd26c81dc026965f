/*
 * list.h - an intrusive, circular, doubly linked list. A list is a kv_list whose two ends point at itself
 * when empty; a link not in a list is undefined. No allocation, no failure; the owner's lock guards it.
 */
#ifndef KV_LIST_H
#define KV_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct kv_list {
    struct kv_list *prev, *next;
};

/* The struct that holds `link` as its member. */
#define KV_CONTAINER(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

static inline void kv_list_init(struct kv_list *list)
{
    list->prev = list->next = list;
}
static inline bool kv_list_empty(const struct kv_list *list)
{
    return list->next == list;
}
static inline void kv_list_push_back(struct kv_list *list, struct kv_list *link)
{
    link->prev = list->prev;
    link->next = list;
    list->prev->next = link;
    list->prev = link;
}
static inline void kv_list_push_front(struct kv_list *list, struct kv_list *link)
{
    kv_list_push_back(list->next, link);
}
static inline void kv_list_remove(struct kv_list *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->prev = link->next = link;
}

#endif
