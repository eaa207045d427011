// SPDX-License-Identifier: LGPL-2.1-or-later
// driver/save/image and driver/save/file: what is written is read again, and what is none is refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/error.h"
#include "base/frame.h"
#include "driver/save/disks.h"
#include "driver/save/file.h"
#include "tests/unit/files.h"

#define GUEST  "6f2b8a1c-3d4e-4f50-8a6b-7c8d9e0f1a2b"
#define STREAM "a stream of an emulator's"

static SaveImage *
new_image(void)
{
    SaveImage *image = save_image_new();
    g_autoptr(json_t) types = json_array();
    image->uuid = g_strdup(GUEST);
    image->name = g_strdup("web");
    image->host = g_strdup("hostA");
    image->xml = g_strdup("<domain/>");
    image->saved_at = 1700000000;
    image->paused = TRUE;
    image->traits = emulator_traits_new(7, types);
    SaveDisk *disk = g_new0(SaveDisk, 1);
    *disk = (SaveDisk){.target = g_strdup("vda"),
                       .path = g_strdup("/images/web.qcow2"),
                       .size = 1u << 20,
                       .changed_s = 1699999999,
                       .changed_ns = 999999999};
    g_ptr_array_add(image->disks, disk);
    json_array_append_new(image->anchors, json_pack("{s:s}", "link", "of some sort"));
    return image;
}

static void
assert_same(const SaveImage *a, const SaveImage *b)
{
    g_autoptr(GBytes) one = save_image_encode(a, NULL), other = save_image_encode(b, NULL);
    assert_true(g_bytes_equal(one, other));
}

static void
a_description_is_read_as_it_was_written(void **state)
{
    g_autoptr(SaveImage) image = new_image();
    g_autoptr(GBytes) text = save_image_encode(image, NULL);
    gsize length;
    const void *data = g_bytes_get_data(text, &length);
    g_autoptr(SaveImage) back = save_image_decode(data, length, NULL);
    assert_non_null(back);
    assert_same(image, back);
    assert_string_equal(back->name, "web");
    assert_true(back->paused);
    const SaveDisk *disk = g_ptr_array_index(back->disks, 0);
    assert_string_equal(disk->path, "/images/web.qcow2");
    assert_int_equal(disk->changed_ns, 999999999);
    g_autoptr(GError) error = NULL;
    g_autoptr(SaveImage) cut = save_image_decode(data, length - 1, &error);
    assert_null(cut);
    assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_FAILED);
}

static void
assert_refused(const char *key, json_t *value)
{
    g_autoptr(SaveImage) image = new_image();
    g_autoptr(GBytes) text = save_image_encode(image, NULL);
    g_autoptr(json_t) object = json_loadb(g_bytes_get_data(text, NULL), g_bytes_get_size(text), 0, NULL);
    if (value)
        json_object_set_new(object, key, value);
    else
        json_object_del(object, key);
    char *changed = json_dumps(object, 0);
    g_autoptr(SaveImage) back = save_image_decode(changed, strlen(changed), NULL);
    assert_null(back);
    free(changed);
}

static void
a_description_that_is_none_is_refused(void **state)
{
    static const char *const keys[] = {"id",    "uuid",   "name",   "host",  "xml",
                                       "saved", "paused", "traits", "disks", "anchors"};
    for (gsize i = 0; i < G_N_ELEMENTS(keys); i++) {
        assert_refused(keys[i], NULL);
        assert_refused(keys[i], json_null());
    }
    assert_refused("id", json_string("../x"));
    assert_refused("uuid", json_string("web"));
    assert_refused("disks", json_pack("[{s:s, s:s, s:i, s:i, s:i}]", "target", "vda", "path", "relative",
                                      "size", 1, "changed", 1, "changed-ns", 1));
    assert_refused("disks", json_pack("[{s:s}]", "target", "vda"));
}

// The bytes of a head, each field where the comment in image.h has it.
static const guint8 head_bytes[SAVE_HEAD] = {
    'Q',  'u', 'a', 's', 'a', 'r', 'S',  'a', 'v', 'e', 'd', 'G', 'u', 'e', 's', 't', //
    0,    0,   0,   1,   0,   0,   1,    0,                                           // layout 1, 256 bytes
    0,    0,   0,   0,   0,   0,   0x20, 0,                                           // stream at 8192
    0,    0,   0,   1,   0,   0,   0,    2,                                           // of 2^32 + 2 bytes
    0xaa,                                                                             // a digest
};

static void
a_head_has_its_layout(void **state)
{
    SaveHead head;
    guint8 bytes[SAVE_HEAD];
    assert_true(save_head_decode(head_bytes, SAVE_HEAD, &head, NULL));
    assert_int_equal(head.description_length, 256);
    assert_int_equal(head.stream_offset, 8192);
    assert_true(head.stream_length == G_GUINT64_CONSTANT(0x100000002));
    assert_int_equal(head.sha256[0], 0xaa);
    save_head_encode(&head, bytes);
    assert_memory_equal(bytes, head_bytes, SAVE_HEAD);
}

static void
assert_head_refused(gsize at, guint8 value, const char *words)
{
    SaveHead head;
    guint8 bytes[SAVE_HEAD];
    g_autoptr(GError) error = NULL;
    memcpy(bytes, head_bytes, SAVE_HEAD);
    bytes[at] = value;
    assert_false(save_head_decode(bytes, SAVE_HEAD, &head, &error));
    assert_non_null(strstr(error->message, words));
}

static void
a_head_that_is_none_is_refused(void **state)
{
    SaveHead head;
    assert_head_refused(15, 'T', "no guest that Quasar has saved");
    assert_head_refused(19, 2, "another version");
    assert_head_refused(22, 0x20, "damaged"); // the description would reach into the stream
    assert_head_refused(20, 0x80, "damaged"); // ... or be longer than any
    assert_head_refused(31, 1, "damaged");    // the stream is not aligned
    assert_head_refused(24, 0x80, "damaged");
    assert_head_refused(32, 0x80, "damaged");
    assert_false(save_head_decode(head_bytes, SAVE_HEAD - 1, &head, NULL));
    guint8 bytes[SAVE_HEAD];
    g_autoptr(GError) error = NULL;
    memcpy(bytes, head_bytes, SAVE_HEAD);
    memset(bytes + 32, 0, 8);
    assert_false(save_head_decode(bytes, SAVE_HEAD, &head, &error));
    assert_non_null(strstr(error->message, "never written to its end"));
}

static void
write_file(const char *path, const SaveImage *image)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SaveFile) file = save_file_create(path, 1024, &error);
    assert_non_null(file);
    assert_int_equal(write(file->fd, STREAM, strlen(STREAM)), strlen(STREAM));
    assert_true(save_file_finish(file, image, TRUE, &error));
    assert_true(save_file_commit(file, &error));
}

static void
assert_holds_stream(const char *path, const SaveImage *image)
{
    int fd = -1;
    char bytes[64];
    g_autoptr(SaveImage) back = save_file_open(path, &fd, NULL);
    assert_non_null(back);
    assert_same(image, back);
    assert_int_equal(read(fd, bytes, sizeof(bytes)), strlen(STREAM));
    assert_memory_equal(bytes, STREAM, strlen(STREAM));
    close(fd);
}

static guint
files_in(const char *directory)
{
    g_autoptr(GDir) dir = g_dir_open(directory, 0, NULL);
    guint n = 0;
    while (g_dir_read_name(dir))
        n++;
    return n;
}

static void
a_file_has_its_name_when_it_is_whole(void **state)
{
    g_autofree char *directory = test_directory_new();
    g_autofree char *path = g_build_filename(directory, "web.saved", NULL);
    g_autoptr(SaveImage) image = new_image();
    g_autoptr(SaveFile) file = save_file_create(path, 1024, NULL);
    assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
    g_autoptr(GError) error = NULL;
    assert_false(save_file_finish(file, image, FALSE, &error)); // there is no stream
    g_clear_pointer(&file, save_file_free);
    assert_int_equal(files_in(directory), 0);
    write_file(path, image);
    assert_int_equal(files_in(directory), 1);
    assert_holds_stream(path, image);
    // Another description before the same stream.
    g_autoptr(SaveImage) other = new_image();
    g_free(other->xml);
    other->xml = g_strnfill(200000, 'x');
    assert_true(save_file_describe(path, other, NULL));
    assert_holds_stream(path, other);
    assert_int_equal(files_in(directory), 1);
    test_directory_free(g_steal_pointer(&directory));
}

static void
assert_open_fails(const char *path, const char *words)
{
    g_autoptr(GError) error = NULL;
    int fd = 0;
    g_autoptr(SaveImage) image = save_file_open(path, &fd, &error);
    assert_null(image);
    assert_int_equal(fd, -1);
    assert_non_null(strstr(error->message, path));
    assert_non_null(strstr(error->message, words));
}

static void
files_that_are_damaged_are_refused(void **state)
{
    g_autofree char *directory = test_directory_new();
    g_autofree char *path = g_build_filename(directory, "web.saved", NULL);
    g_autoptr(SaveImage) image = new_image();
    g_autoptr(GError) error = NULL;
    assert_open_fails(path, "cannot open");
    assert_open_fails(directory, "no ordinary file");
    g_autoptr(SaveFile) odd = save_file_create(directory, 1024, &error);
    assert_null(odd);
    assert_null(save_file_create("web.saved", 1024, NULL));
    write_file(path, image);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size - 1), 0);
    assert_open_fails(path, "it was cut");
    write_file(path, image);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "X", 1, SAVE_HEAD + 3), 1);
    close(fd);
    assert_open_fails(path, "damaged");
    test_directory_free(g_steal_pointer(&directory));
}

static void
disks_are_known_by_size_and_time(void **state)
{
    g_autofree char *directory = test_directory_new();
    g_autofree char *path = g_build_filename(directory, "web.raw", NULL);
    g_autofree char *xml =
        g_strdup_printf("<domain type='qemu'><name>web</name><memory>1024</memory><os><type>hvm</type></os>"
                        "<devices><disk type='file'><driver name='qemu' type='raw'/><source file='%s'/>"
                        "<target dev='vda' bus='virtio'/></disk></devices></domain>",
                        path);
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainDef) def = domain_def_parse(xml, &error);
    g_autoptr(SaveImage) image = new_image();
    assert_non_null(def);
    assert_false(save_disks_note(image, def, NULL)); // it is not there
    assert_true(g_file_set_contents(path, "disk", 4, NULL));
    assert_true(save_disks_note(image, def, NULL));
    assert_int_equal(image->disks->len, 1);
    assert_true(save_disks_check(image, def, NULL));
    SaveDisk *disk = g_ptr_array_index(image->disks, 0);
    // As a tool puts it back that knows whole seconds only.
    const struct timespec whole[] = {{disk->changed_s, 0}, {disk->changed_s, 0}};
    assert_int_equal(utimensat(AT_FDCWD, path, whole, 0), 0);
    assert_true(save_disks_check(image, def, NULL));
    const struct timespec later[] = {{disk->changed_s + 1, 0}, {disk->changed_s + 1, 0}};
    assert_int_equal(utimensat(AT_FDCWD, path, later, 0), 0);
    assert_false(save_disks_check(image, def, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_INVALID);
    assert_int_equal(utimensat(AT_FDCWD, path, whole, 0), 0);
    disk->size++;
    assert_false(save_disks_check(image, def, NULL));
    test_directory_free(g_steal_pointer(&directory));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_description_is_read_as_it_was_written),
        cmocka_unit_test(a_description_that_is_none_is_refused),
        cmocka_unit_test(a_head_has_its_layout),
        cmocka_unit_test(a_head_that_is_none_is_refused),
        cmocka_unit_test(a_file_has_its_name_when_it_is_whole),
        cmocka_unit_test(files_that_are_damaged_are_refused),
        cmocka_unit_test(disks_are_known_by_size_and_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
