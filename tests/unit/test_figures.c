// SPDX-License-Identifier: LGPL-2.1-or-later
// Figures of disks, the documents that describe the host, and applications' metadata.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "driver/blockinfo.h"
#include "xml/domain_capabilities.h"
#include "xml/metadata.h"

static void
check_image(const char *bytes, gsize length, const char *format, gboolean good, guint64 capacity)
{
    g_autofree char *directory = g_dir_make_tmp("image-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(directory, "image", NULL);
    DomainImage image = {.path = path, .format = (char *) format};
    BlockInfo info = {0};
    g_autoptr(GError) error = NULL;

    assert_true(g_file_set_contents(path, bytes, (gssize) length, NULL));
    assert_int_equal(block_info(&image, &info, &error), good);
    if (good) {
        assert_int_equal(info.capacity, capacity);
        assert_int_equal(info.physical, length);
    } else {
        assert_int_equal(quasar_error_code(error), VIR_ERR_INTERNAL_ERROR);
    }
    g_remove(path);
    g_rmdir(directory);
}

static void
test_sizes_of_images(void **state)
{
    (void) state;
    char header[104] = {'Q', 'F', 'I', '\xfb', 0, 0, 0, 3};

    header[24 + 4] = 0x40; // 1 GiB, big-endian
    check_image(header, sizeof(header), "qcow2", TRUE, 1u << 30);
    check_image(header, sizeof(header), "raw", TRUE, sizeof(header));
    check_image(header, 31, "qcow2", FALSE, 0);
    header[0] = 'X';
    check_image(header, sizeof(header), "qcow2", FALSE, 0);
}

static void
test_no_image(void **state)
{
    (void) state;
    DomainImage none = {0}, absent = {.path = (char *) "/nonexistent/image"};
    BlockInfo info;
    g_autoptr(GError) first = NULL, second = NULL;

    assert_false(block_info(&none, &info, &first));
    assert_int_equal(quasar_error_code(first), VIR_ERR_INVALID_ARG);
    assert_false(block_info(&absent, &info, &second));
    assert_int_equal(quasar_error_code(second), VIR_ERR_SYSTEM_ERROR);
}

static void
test_fifo_does_not_hold_us(void **state)
{
    (void) state;
    g_autofree char *directory = g_dir_make_tmp("fifo-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(directory, "image", NULL);
    DomainImage image = {.path = path, .format = (char *) "raw"};
    BlockInfo info;

    assert_int_equal(mkfifo(path, 0600), 0);
    assert_false(block_info(&image, &info, NULL));
    g_remove(path);
    g_rmdir(directory);
}

static void
test_metadata_of_an_application(void **state)
{
    (void) state;
    static const char metadata[] = "<metadata>"
                                   "<a:one xmlns:a='urn:a' n='1'><a:inner/>text</a:one>"
                                   "<b:two xmlns:b='urn:b'/>"
                                   "</metadata>";
    g_autofree char *one = metadata_element(metadata, "urn:a");

    assert_string_equal(one, "<one n=\"1\"><inner/>text</one>");
    assert_null(metadata_element(metadata, "urn:c"));
    assert_null(metadata_element(NULL, "urn:a"));
}

static void
test_domain_capabilities(void **state)
{
    (void) state;
    const char *const models[] = {"qemu64", "Haswell"};
    const DomainCapabilitiesPatch patches[] = {{"one", TRUE, "nothing"}, {"two", FALSE, "time <stands>"}};
    DomainCapabilities capabilities = {
        .emulator = "/usr/bin/qemu-system-x86_64",
        .virt_type = "qemu",
        .machine = "pc-q35-7.2",
        .arch = "x86_64",
        .max_vcpus = 288,
        .cpu_models = models,
        .n_cpu_models = 2,
        .pc = TRUE,
        .patches = patches,
        .n_patches = 2,
    };
    g_autofree char *xml = domain_capabilities_format(&capabilities);

    assert_non_null(strstr(xml, "<machine>pc-q35-7.2</machine>"));
    assert_non_null(strstr(xml, "<vcpu max='288'/>"));
    assert_non_null(strstr(xml, "<model usable='unknown'>Haswell</model>"));
    assert_non_null(strstr(xml, "<graphics supported='no'/>"));
    assert_non_null(strstr(xml, "<backingStoreInput supported='yes'/>"));
    assert_null(strstr(xml, "spice"));
    assert_non_null(strstr(xml, "<value>sata</value>"));
    capabilities.pc = FALSE;
    g_autofree char *other = domain_capabilities_format(&capabilities);
    assert_null(strstr(other, "sata"));
    assert_non_null(strstr(xml, "<patch name='one' supported='yes'/>"));
    assert_non_null(strstr(xml, "<patch name='two' supported='no'>time &lt;stands&gt;</patch>"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_of_images),       cmocka_unit_test(test_no_image),
        cmocka_unit_test(test_fifo_does_not_hold_us), cmocka_unit_test(test_metadata_of_an_application),
        cmocka_unit_test(test_domain_capabilities),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
