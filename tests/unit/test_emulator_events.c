// SPDX-License-Identifier: LGPL-2.1-or-later
// What the emulator says becomes what clients are told, and the domain's state.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/frame.h"
#include "driver/domain.h"
#include "driver/process.h"

static Driver driver;

typedef struct {
    Domain *domain;
    GString *told; // one word group for each event
    guint subscription;
} Guest;

static const char *
event_text(const char *text)
{
    return text ? text : "-";
}

static void
note(const DomainEvent *event, gpointer told)
{
    if (event->id == EVENT_ID_MONITOR) // each of the others is told so too
        return;
    g_string_append_printf(told, "%d:%d,%d,%lld,%s,%s,%s;", event->id, event->type, event->detail,
                           event->value, event_text(event->path), event_text(event->target),
                           event_text(event->reason));
}

static int
guest_up(void **state)
{
    Guest *guest = g_new0(Guest, 1);
    DomainDef *def = domain_def_new();
    DomainDisk *disk = g_new0(DomainDisk, 1);

    def->name = g_strdup("web");
    def->memory_kib = 1024;
    disk->target = g_strdup("vda");
    disk->image.path = g_strdup("/images/web.qcow2");
    disk->image.format = g_strdup("qcow2");
    disk->info.alias = g_strdup("virtio-disk0");
    g_ptr_array_add(def->disks, disk);
    guest->domain = domain_new(&driver, def);
    guest->domain->live = def;
    guest->domain->id = 1;
    domain_set_state(guest->domain, VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_BOOTED);
    guest->told = g_string_new(NULL);
    guest->subscription = event_bus_subscribe(driver.events, note, guest->told, NULL);
    *state = guest;
    return 0;
}

static int
guest_down(void **state)
{
    Guest *guest = *state;

    event_bus_unsubscribe(driver.events, guest->subscription);
    g_string_free(guest->told, TRUE);
    domain_unref(guest->domain);
    g_free(guest);
    return 0;
}

static void
says(Guest *guest, const char *name, const char *data)
{
    g_autoptr(json_t) parsed = json_loads(data, 0, NULL);

    g_string_truncate(guest->told, 0);
    emulator_event(NULL, name, parsed, 0, guest->domain);
}

static void
test_reset_is_a_reboot(void **state)
{
    Guest *guest = *state;

    says(guest, "RESET", "{\"guest\": true}");
    assert_string_equal(guest->told->str, "1:0,0,0,-,-,-;");
}

static void
test_rtc(void **state)
{
    Guest *guest = *state;

    says(guest, "RTC_CHANGE", "{\"offset\": -3600}");
    assert_string_equal(guest->told->str, "2:0,0,-3600,-,-,-;");
}

static void
test_balloon_is_never_above_the_definition(void **state)
{
    Guest *guest = *state;

    says(guest, "BALLOON_CHANGE", "{\"actual\": 524288}");
    assert_string_equal(guest->told->str, "13:0,0,512,-,-,-;");
    assert_int_equal(guest->domain->live->current_memory_kib, 512);
    says(guest, "BALLOON_CHANGE", "{\"actual\": 1056768}");
    assert_string_equal(guest->told->str, "13:0,0,1024,-,-,-;");
}

static void
test_io_error_names_the_disk(void **state)
{
    Guest *guest = *state;
    static const char *const told = "4:1,0,0,/images/web.qcow2,virtio-disk0,enospc;"
                                    "6:1,0,0,/images/web.qcow2,virtio-disk0,enospc;0:3,2,0,-,-,-;";

    says(guest, "BLOCK_IO_ERROR",
         "{\"device\": \"\", \"node-name\": \"libvirt-1-format\", \"action\": \"stop\", \"nospace\": true}");
    assert_string_equal(guest->told->str, told);
    assert_int_equal(guest->domain->state, VIR_DOMAIN_PAUSED);
    assert_int_equal(guest->domain->reason, VIR_DOMAIN_PAUSED_IOERROR);

    // Of a node that is no disk of the guest's, and reported to the guest only.
    says(guest, "BLOCK_IO_ERROR", "{\"device\": \"\", \"node-name\": \"x\", \"action\": \"report\"}");
    assert_string_equal(guest->told->str, "4:2,0,0,,,;6:2,0,0,,,;");
}

static void
test_watchdog(void **state)
{
    Guest *guest = *state;

    says(guest, "WATCHDOG", "{\"action\": \"reset\"}");
    assert_string_equal(guest->told->str, "3:2,0,0,-,-,-;");
    says(guest, "WATCHDOG", "{\"action\": \"pause\"}");
    assert_string_equal(guest->told->str, "3:1,0,0,-,-,-;0:3,3,0,-,-,-;");
    assert_int_equal(guest->domain->reason, VIR_DOMAIN_PAUSED_WATCHDOG);
}

static void
test_sleep_and_wakeup(void **state)
{
    Guest *guest = *state;

    says(guest, "SUSPEND", "{}");
    assert_string_equal(guest->told->str, "12:0,0,0,-,-,-;0:7,0,0,-,-,-;");
    assert_int_equal(guest->domain->state, VIR_DOMAIN_PMSUSPENDED);
    says(guest, "WAKEUP", "{}");
    assert_string_equal(guest->told->str, "11:0,0,0,-,-,-;0:2,4,0,-,-,-;");
    assert_int_equal(guest->domain->state, VIR_DOMAIN_RUNNING);
    says(guest, "SUSPEND_DISK", "{}");
    assert_string_equal(guest->told->str, "14:0,0,0,-,-,-;0:7,1,0,-,-,-;");
}

static void
test_devices_and_trays(void **state)
{
    Guest *guest = *state;

    says(guest, "DEVICE_TRAY_MOVED", "{\"device\": \"\", \"id\": \"sata0-0-0\", \"tray-open\": true}");
    assert_string_equal(guest->told->str, "10:0,0,0,-,sata0-0-0,-;");
    says(guest, "DEVICE_DELETED", "{\"device\": \"net1\", \"path\": \"/machine/peripheral/net1\"}");
    assert_string_equal(guest->told->str, "15:0,0,0,-,net1,-;");
    says(guest, "DEVICE_DELETED", "{\"path\": \"/machine/peripheral/net1/virtio-backend\"}");
    assert_string_equal(guest->told->str, "");
    says(guest, "DEVICE_UNPLUG_GUEST_ERROR", "{\"device\": \"net1\", \"path\": \"/x\"}");
    assert_string_equal(guest->told->str, "22:0,0,0,-,net1,-;");
}

static void
test_memory_failure(void **state)
{
    Guest *guest = *state;

    says(guest, "MEMORY_FAILURE",
         "{\"recipient\": \"guest\", \"action\": \"inject\", \"flags\": {\"action-required\": true, "
         "\"recursive\": false}}");
    assert_string_equal(guest->told->str, "25:1,1,1,-,-,-;");
    says(guest, "MEMORY_FAILURE", "{\"recipient\": \"nobody\", \"action\": \"inject\"}");
    assert_string_equal(guest->told->str, "");
}

static void
test_passes_over_the_memory(void **state)
{
    Guest *guest = *state;

    says(guest, "MIGRATION_PASS", "{\"pass\": 3}");
    assert_string_equal(guest->told->str, "20:0,3,0,-,-,-;");
}

static void
test_nothing_of_a_guest_that_is_off(void **state)
{
    Guest *guest = *state;

    guest->domain->id = -1;
    says(guest, "RESET", "{\"guest\": true}");
    assert_string_equal(guest->told->str, "");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reset_is_a_reboot, guest_up, guest_down),
        cmocka_unit_test_setup_teardown(test_rtc, guest_up, guest_down),
        cmocka_unit_test_setup_teardown(test_balloon_is_never_above_the_definition, guest_up, guest_down),
        cmocka_unit_test_setup_teardown(test_io_error_names_the_disk, guest_up, guest_down),
        cmocka_unit_test_setup_teardown(test_watchdog, guest_up, guest_down),
        cmocka_unit_test_setup_teardown(test_sleep_and_wakeup, guest_up, guest_down),
        cmocka_unit_test_setup_teardown(test_devices_and_trays, guest_up, guest_down),
        cmocka_unit_test_setup_teardown(test_memory_failure, guest_up, guest_down),
        cmocka_unit_test_setup_teardown(test_passes_over_the_memory, guest_up, guest_down),
        cmocka_unit_test_setup_teardown(test_nothing_of_a_guest_that_is_off, guest_up, guest_down),
    };

    driver.events = event_bus_new();
    const int result = cmocka_run_group_tests(tests, NULL, NULL);
    event_bus_free(driver.events);
    return result;
}
