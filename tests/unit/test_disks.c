// SPDX-License-Identifier: LGPL-2.1-or-later
// What the other host of a move may say about disks.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <glib/gstdio.h>
#include <string.h>

#include "base/error.h"
#include "driver/migration/disks.h"
#include "driver/migration/moved.h"

#define IMAGES "/var/lib/libvirt/images/"

static const char xml[] =
    "<domain type='qemu'><name>web</name><memory unit='KiB'>131072</memory>"
    "<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><devices>"
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
    "<source file='" IMAGES "web.qcow2'/><target dev='vda' bus='virtio'/></disk>"
    "<disk type='file' device='disk'><driver name='qemu' type='raw'/>"
    "<source file='" IMAGES "data.raw'/><target dev='vdb' bus='virtio'/></disk>"
    "<disk type='file' device='disk'><driver name='qemu' type='raw'/>"
    "<source file='" IMAGES "seed.raw'/><target dev='vdc' bus='virtio'/><readonly/></disk>"
    "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>"
    "</devices></domain>";

static void
say(Cookie *cookie, const char *target, const char *path, const char *format)
{
    CookieDisk *disk = g_new0(CookieDisk, 1);
    disk->target = g_strdup(target);
    disk->path = g_strdup(path);
    disk->format = g_strdup(format);
    g_ptr_array_add(cookie->disks, disk);
}

// What a well-behaved host says; `vdb` may be another's word.
static Cookie *
said(const char *target, const char *path, const char *format)
{
    Cookie *cookie = cookie_new();
    say(cookie, "vda", IMAGES "web.qcow2", "qcow2");
    if (target)
        say(cookie, target, path, format);
    return cookie;
}

static DomainDef *
definition(void)
{
    g_autoptr(GError) error = NULL;
    DomainDef *def = domain_def_parse(xml, &error);
    assert_null(error);
    return def;
}

static void
test_same_disks(void **state)
{
    g_autoptr(DomainDef) def = definition();
    g_autoptr(Cookie) cookie = said("vdb", IMAGES "data.raw", "raw");
    assert_true(disks_agree(def, cookie, NULL));
}

static void
test_other_disks(void **state)
{
    static const struct {
        const char *target, *path, *format;
    } words[] = {
        {NULL, NULL, NULL},                     // it would not be copied
        {"vdb", "/etc/shadow", "raw"},          // it would be renamed
        {"vdb", IMAGES "../data.raw", "raw"},   // another name of what is not meant
        {"vdb", IMAGES "data.raw", "qcow2"},    // the guest's bytes would be believed to be a header
        {"vdc", IMAGES "seed.raw", "raw"},      // read-only
        {"vda", IMAGES "web.qcow2", "qcow2"},   // twice, and the other left out
        {"vdz", IMAGES "other.qcow2", "qcow2"}, // not the domain's
    };
    g_autoptr(DomainDef) def = definition();
    for (gsize i = 0; i < G_N_ELEMENTS(words); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Cookie) cookie = said(words[i].target, words[i].path, words[i].format);
        assert_false(disks_agree(def, cookie, &error));
        assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_FAILED);
        assert_non_null(strstr(error->message, "vdb"));
    }
}

static void
test_disk_too_many(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainDef) def = definition();
    g_autoptr(Cookie) cookie = said("vdb", IMAGES "data.raw", "raw");
    say(cookie, "vdd", "/etc/passwd", "raw");
    assert_false(disks_agree(def, cookie, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_FAILED);
}

static char *
touch(const char *directory, const char *name)
{
    char *path = g_build_filename(directory, name, NULL);
    assert_true(g_file_set_contents(path, "", 0, NULL));
    return path;
}

// Whoever looks for a guest that has left is told of its way, as long as its images are where the move put
// them.
static void
test_guest_that_has_moved(void **state)
{
    g_autofree char *directory = g_dir_make_tmp("quasar-moved-XXXXXX", NULL);
    g_autofree char *image = touch(directory, "web.qcow2");
    g_autofree char *old = disks_superseded_path(image);
    char *images[] = {image, NULL};
    Handoff handoff = {
        .uuid = "6ba7b810-9dad-11d1-80b4-00c04fd430c8", .peer_host = "hostB", .images = images};
    g_autoptr(GError) error = NULL;
    assert_true(moved_check(directory, handoff.uuid, "web", NULL));
    disks_supersede(images);
    assert_true(moved_check(directory, handoff.uuid, "web", NULL));
    moved_note(directory, &handoff);
    assert_false(moved_check(directory, handoff.uuid, "web", &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_INVALID);
    assert_non_null(strstr(error->message, "moved to hostB"));
    assert_non_null(strstr(error->message, old));
    assert_int_equal(g_rename(old, image), 0);
    assert_true(moved_check(directory, handoff.uuid, "web", NULL));
    disks_supersede(images);
    moved_forget(directory, handoff.uuid);
    assert_true(moved_check(directory, handoff.uuid, "web", NULL));
    moved_forget(directory, handoff.uuid);
    // A host without a name, and a note that is none.
    handoff.peer_host = NULL;
    moved_note(directory, &handoff);
    assert_false(moved_check(directory, handoff.uuid, "web", NULL));
    g_autofree char *notes = g_build_filename(directory, "moved", NULL);
    g_autofree char *note = touch(notes, handoff.uuid);
    assert_true(moved_check(directory, handoff.uuid, "web", NULL));
    assert_int_equal(g_unlink(note) | g_rmdir(notes) | g_unlink(old) | g_rmdir(directory), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_disks),
        cmocka_unit_test(test_other_disks),
        cmocka_unit_test(test_disk_too_many),
        cmocka_unit_test(test_guest_that_has_moved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
