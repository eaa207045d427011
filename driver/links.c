// SPDX-License-Identifier: LGPL-2.1-or-later
// The host's NICs as the kernel tells of them: a netlink socket.
#include "driver/links.h"

#include <errno.h>
#include <glib-unix.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"

// What dumps of many NICs come in.
#define DATAGRAM_MAX 32768

typedef struct {
    GHashTable *known; // name -> LinkState
    LinkChanged changed;
    gpointer data;
} Links;

static void
links_free(gpointer data)
{
    Links *links = data;
    g_hash_table_unref(links->known);
    g_free(links);
}

static LinkState
state_of(guint type, guint flags)
{
    if (type == RTM_DELLINK)
        return LINK_GONE;
    if (!(flags & IFF_UP))
        return LINK_DOWN;
    return flags & IFF_RUNNING ? LINK_UP : LINK_NO_CARRIER;
}

// One message's payload: what a link is called.
static void
decode_link(guint type, const guint8 *bytes, gsize length, LinkChanged changed, gpointer data)
{
    struct ifinfomsg link;
    struct rtattr attribute;
    if (length < NLMSG_ALIGN(sizeof(link)))
        return;
    memcpy(&link, bytes, sizeof(link));
    for (gsize at = NLMSG_ALIGN(sizeof(link)); length - at >= sizeof(attribute);) {
        memcpy(&attribute, bytes + at, sizeof(attribute));
        if (attribute.rta_len < sizeof(attribute) || attribute.rta_len > length - at)
            return;
        const char *name = (const char *) bytes + at + RTA_LENGTH(0);
        const gsize room = attribute.rta_len - RTA_LENGTH(0);
        if (attribute.rta_type == IFLA_IFNAME && room > 0 && room <= IFNAMSIZ && memchr(name, 0, room) &&
            name[0]) {
            changed(name, state_of(type, link.ifi_flags), data);
            return;
        }
        at += MIN(RTA_ALIGN(attribute.rta_len), length - at);
    }
}

void
links_decode(const void *bytes, gsize length, LinkChanged changed, gpointer data)
{
    struct nlmsghdr header;
    for (gsize at = 0; length - at >= sizeof(header);) {
        memcpy(&header, (const guint8 *) bytes + at, sizeof(header));
        if (header.nlmsg_len < NLMSG_HDRLEN || header.nlmsg_len > length - at)
            return;
        // A dump of one family of bridges' ports would be of another family; we hear of NICs only.
        if (header.nlmsg_type == RTM_NEWLINK || header.nlmsg_type == RTM_DELLINK)
            decode_link(header.nlmsg_type, (const guint8 *) bytes + at + NLMSG_HDRLEN,
                        header.nlmsg_len - NLMSG_HDRLEN, changed, data);
        at += MIN(NLMSG_ALIGN(header.nlmsg_len), length - at);
    }
}

LinkState
links_look(const char *nic)
{
    struct ifreq request = {0};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    g_strlcpy(request.ifr_name, nic, sizeof(request.ifr_name));
    gboolean there = fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &request) == 0;
    if (fd >= 0)
        close(fd);
    return there ? state_of(RTM_NEWLINK, (guint) (guint16) request.ifr_flags) : LINK_GONE;
}

static void
note(const char *nic, LinkState state, gpointer data)
{
    Links *links = data;
    gpointer known;
    gboolean told = g_hash_table_lookup_extended(links->known, nic, NULL, &known);
    if (told && GPOINTER_TO_INT(known) == (int) state)
        return;
    if (state == LINK_GONE)
        g_hash_table_remove(links->known, nic);
    else
        g_hash_table_insert(links->known, g_strdup(nic), GINT_TO_POINTER((int) state));
    if (told || state != LINK_UP)
        links->changed(nic, state, links->data);
}

// The answer comes as all else does.
static gboolean
ask_for_all(int fd)
{
    const struct {
        struct nlmsghdr header;
        struct ifinfomsg link;
    } question = {{.nlmsg_len = sizeof(question),
                   .nlmsg_type = RTM_GETLINK,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
                   .nlmsg_seq = 1},
                  {.ifi_family = AF_UNSPEC}};
    return send(fd, &question, sizeof(question), 0) == (ssize_t) sizeof(question);
}

static gboolean
readable(gint fd, GIOCondition condition G_GNUC_UNUSED, gpointer data)
{
    g_autofree guint8 *bytes = g_malloc(DATAGRAM_MAX);
    struct sockaddr_nl sender;
    socklen_t size = sizeof(sender);
    ssize_t n = recvfrom(fd, bytes, DATAGRAM_MAX, MSG_DONTWAIT, (struct sockaddr *) &sender, &size);
    if (n >= 0 && size == sizeof(sender) && sender.nl_pid == 0) // the kernel
        links_decode(bytes, (gsize) n, note, data);
    else if (n < 0 && errno == ENOBUFS)
        ask_for_all(fd); // more came than there was room for
    return G_SOURCE_CONTINUE;
}

gboolean
links_watch(GMainContext *context, LinkChanged changed, gpointer data, GError **error)
{
    const struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (fd < 0 || bind(fd, (const struct sockaddr *) &address, sizeof(address)) != 0 || !ask_for_all(fd)) {
        quasar_set_system_error(error, errno, "cannot listen to the kernel's news of NICs");
        if (fd >= 0)
            close(fd);
        return FALSE;
    }
    Links *links = g_new0(Links, 1);
    links->known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    links->changed = changed;
    links->data = data;
    g_autoptr(GSource) source = g_unix_fd_source_new(fd, G_IO_IN);
    g_source_set_callback(source, G_SOURCE_FUNC(readable), links, links_free);
    g_source_attach(source, context);
    return TRUE;
}
