// SPDX-License-Identifier: LGPL-2.1-or-later
// What the kernel tells of the host's NICs, and what clients are told of guests'.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>

#include "base/frame.h"
#include "driver/links.h"
#include "driver/nic_events.h"

static Driver driver;

static void
write_link(const char *nic, LinkState state, gpointer text)
{
    g_string_append_printf(text, "%s:%d;", nic, state);
}

// A message as the kernel writes it: an attribute that nobody wants, then the name.
static void
append_link(GByteArray *bytes, guint type, guint flags, const char *name)
{
    const guint name_length = RTA_LENGTH(strlen(name) + 1);
    const struct {
        struct ifinfomsg link;
        struct rtattr other;
        guint32 mtu;
    } head = {{.ifi_family = 0, .ifi_index = 7, .ifi_flags = flags}, {RTA_LENGTH(4), IFLA_MTU}, 1500};
    const struct rtattr attribute = {(guint16) name_length, IFLA_IFNAME};
    const struct nlmsghdr header = {.nlmsg_len = NLMSG_LENGTH(sizeof(head)) + RTA_ALIGN(name_length),
                                    .nlmsg_type = (guint16) type};
    const guint8 zeros[16] = {0};
    g_byte_array_append(bytes, (const guint8 *) &header, sizeof(header));
    g_byte_array_append(bytes, (const guint8 *) &head, sizeof(head));
    g_byte_array_append(bytes, (const guint8 *) &attribute, sizeof(attribute));
    g_byte_array_append(bytes, (const guint8 *) name, (guint) strlen(name) + 1);
    g_byte_array_append(bytes, zeros, (guint) (RTA_ALIGN(name_length) - name_length));
}

static GByteArray *
datagram(void)
{
    GByteArray *bytes = g_byte_array_new();
    append_link(bytes, RTM_NEWLINK, IFF_UP | IFF_RUNNING, "eth0");
    append_link(bytes, RTM_NEWLINK, IFF_UP, "enp0s31f6");
    append_link(bytes, RTM_NEWLINK, 0, "br0");
    append_link(bytes, NLMSG_DONE, 0, "none");
    append_link(bytes, RTM_DELLINK, IFF_UP | IFF_RUNNING, "tap123456789012");
    return bytes;
}

static void
test_messages_of_the_kernel(void **state)
{
    (void) state;
    g_autoptr(GByteArray) bytes = datagram();
    g_autoptr(GString) said = g_string_new(NULL);
    links_decode(bytes->data, bytes->len, write_link, said);
    assert_string_equal(said->str, "eth0:0;enp0s31f6:1;br0:2;tap123456789012:3;");
}

// Whatever a datagram is, nothing outside it is read (the sanitizers would tell), and a name is one.
static void
check_name(const char *nic, LinkState state, gpointer data)
{
    (void) data;
    assert_in_range(strlen(nic), 1, IFNAMSIZ - 1);
    assert_in_range(state, LINK_UP, LINK_GONE);
}

static void
test_messages_of_nobody(void **state)
{
    (void) state;
    g_autoptr(GRand) random = g_rand_new_with_seed(4);
    g_autoptr(GByteArray) whole = datagram();
    for (guint length = 0; length < whole->len; length++) {
        g_autofree guint8 *cut = g_memdup2(whole->data, length);
        links_decode(cut, length, check_name, NULL);
    }
    for (guint i = 0; i < 20000; i++) {
        g_autofree guint8 *copy = g_memdup2(whole->data, whole->len);
        for (gint n = g_rand_int_range(random, 1, 6); n > 0; n--)
            copy[g_rand_int_range(random, 0, (gint) whole->len)] = (guint8) g_rand_int(random);
        links_decode(copy, whole->len, check_name, NULL);
    }
}

static void
test_links_of_this_host(void **state)
{
    (void) state;
    assert_int_equal(links_look("none0"), LINK_GONE);
    assert_int_not_equal(links_look("lo"), LINK_GONE);
}

static void
note(const DomainEvent *event, gpointer told)
{
    if (event->id == EVENT_ID_MONITOR)
        g_string_append_printf(told, "%s %s;", event->path, event->reason);
}

static Domain *
make_domain(void)
{
    DomainDef *def = domain_def_new();
    DomainInterface *nic = g_new0(DomainInterface, 1);
    def->name = g_strdup("web");
    nic->info.alias = g_strdup("net0");
    g_ptr_array_add(def->interfaces, nic);
    Domain *domain = domain_new(&driver, def);
    domain->live = def;
    domain->id = 1;
    return domain;
}

static void
test_troubles_of_a_nic(void **state)
{
    (void) state;
    g_autoptr(Domain) domain = make_domain();
    g_autoptr(GString) told = g_string_new(NULL);
    g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free);
    const guint subscription = event_bus_subscribe(driver.events, note, told, NULL);

    domain_network_event(domain, 0, NIC_LINK, NULL); // nothing was wrong
    assert_string_equal(told->str, "");
    domain_network_event(domain, 0, NIC_LINK, "it is down");
    assert_string_equal(told->str, "QUASAR_NETWORK {\"nic\":\"net0\",\"index\":0,\"event\":\"link-down\","
                                   "\"problem\":\"it is down\"};");
    g_string_truncate(told, 0);
    domain_network_event(domain, 0, NIC_LINK, "it is still down");
    assert_string_equal(told->str, "");
    domain_network_event(domain, 0, NIC_TUNNEL, "hostB does not answer");
    domain_network_problems(domain, texts);
    assert_int_equal(texts->len, 2);
    assert_string_equal(g_ptr_array_index(texts, 0), "network interface net0: it is still down");
    assert_string_equal(g_ptr_array_index(texts, 1), "network interface net0: hostB does not answer");
    g_string_truncate(told, 0);
    domain_network_event(domain, 0, NIC_LINK, NULL);
    domain_network_event(domain, 0, NIC_TUNNEL, NULL);
    assert_string_equal(
        told->str, "QUASAR_NETWORK {\"nic\":\"net0\",\"index\":0,\"event\":\"link-up\",\"problem\":null};"
                   "QUASAR_NETWORK {\"nic\":\"net0\",\"index\":0,\"event\":\"tunnel-up\",\"problem\":null};");
    g_ptr_array_set_size(texts, 0);
    domain_network_problems(domain, texts);
    assert_int_equal(texts->len, 0);
    event_bus_unsubscribe(driver.events, subscription);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_of_the_kernel),
        cmocka_unit_test(test_messages_of_nobody),
        cmocka_unit_test(test_links_of_this_host),
        cmocka_unit_test(test_troubles_of_a_nic),
    };
    driver.events = event_bus_new();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    event_bus_free(driver.events);
    return failed;
}
