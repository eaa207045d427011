// SPDX-License-Identifier: LGPL-2.1-or-later
// Disk images: qemu-img and checksums.
#include "emulator/image.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/frame.h"
#include "emulator/child.h"

// Headers come from guests and other hosts: a hostile one must cost no more than this.
#define TOOL_MEMORY     (1u << 30)
#define TOOL_TIMEOUT_MS 30000
#define READ_CHUNK      (256u << 10)
// A file written within this time may be written again without a change of its time stamps, which move by the
// kernel's tick.
#define SETTLE_NS (100 * G_GINT64_CONSTANT(1000000))

void
image_info_clear(ImageInfo *info)
{
    g_clear_pointer(&info->format, g_free);
    g_clear_pointer(&info->backing_path, g_free);
    g_clear_pointer(&info->backing_format, g_free);
}

// A name with a colon before its first slash would be taken for a protocol, one with a dash for an option.
static gboolean
check_path(const char *path, GError **error)
{
    if (g_path_is_absolute(path))
        return TRUE;
    quasar_set_error(error, VIR_ERR_INVALID_ARG, "the path of image '%s' must begin with '/'", path);
    return FALSE;
}

static gboolean
run_tool(GPtrArray *argv, const EmulatorUser *user, char **output, GError **error)
{
    g_ptr_array_add(argv, NULL);
    g_autoptr(Child) child = child_start((const char *const *) argv->pdata, user, -1, TOOL_MEMORY, error);
    return child && child_finish(child, TOOL_TIMEOUT_MS, output, error);
}

static void
add(GPtrArray *argv, const char *first, const char *second)
{
    g_ptr_array_add(argv, g_strdup(first));
    if (second)
        g_ptr_array_add(argv, g_strdup(second));
}

static gboolean
take_info(json_t *object, const char *path, ImageInfo *info, GError **error)
{
    const char *format = json_string_value(json_object_get(object, "format"));
    json_t *size = json_object_get(object, "virtual-size");
    if (!format || !json_is_integer(size)) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "qemu-img told no format and size of '%s'", path);
        return FALSE;
    }
    const char *backing = json_string_value(json_object_get(object, "full-backing-filename"));
    if (!backing)
        backing = json_string_value(json_object_get(object, "backing-filename"));
    if (backing && g_str_has_prefix(backing, "file:"))
        backing += strlen("file:");
    *info = (ImageInfo){
        .format = g_strdup(format),
        .virtual_size = json_integer_value(size),
        .actual_size = json_integer_value(json_object_get(object, "actual-size")),
        .backing_path = g_strdup(backing),
        .backing_format = g_strdup(json_string_value(json_object_get(object, "backing-filename-format"))),
    };
    return TRUE;
}

gboolean
image_probe(const char *path, const char *format, const EmulatorUser *user, ImageInfo *info, GError **error)
{
    if (!check_path(path, error))
        return FALSE;
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    add(argv, "qemu-img", "info");
    // An emulator that has the image open holds its lock.
    add(argv, "--force-share", "--output=json");
    if (format)
        add(argv, "-f", format);
    add(argv, path, NULL);
    g_autofree char *output = NULL;
    if (!run_tool(argv, user, &output, error))
        return FALSE;
    g_autoptr(json_t) object = json_loads(output, 0, NULL);
    return take_info(object, path, info, error);
}

gboolean
image_create(const char *path, const char *format, guint64 virtual_size, const char *backing,
             const char *backing_format, const EmulatorUser *user, GError **error)
{
    if (!check_path(path, error) || (backing && !check_path(backing, error)))
        return FALSE;
    // qemu-img would make a file that is missing, in a place and with an owner that nobody decided.
    if (!g_file_test(path, G_FILE_TEST_EXISTS)) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "there is no file '%s' to make an image in", path);
        return FALSE;
    }
    if (virtual_size == 0 && !backing) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "image '%s' needs a size or a backing image", path);
        return FALSE;
    }
    if (backing && !backing_format) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "the format of backing image '%s' must be given",
                         backing);
        return FALSE;
    }
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    add(argv, "qemu-img", "create");
    add(argv, "-q", NULL);
    add(argv, "-f", format);
    if (backing) {
        add(argv, "-b", backing);
        add(argv, "-F", backing_format);
    }
    add(argv, path, NULL);
    if (virtual_size)
        g_ptr_array_add(argv, g_strdup_printf("%" G_GUINT64_FORMAT, virtual_size));
    return run_tool(argv, user, NULL, error);
}

static gint64
nanoseconds(const struct timespec *when)
{
    return when->tv_sec * G_GINT64_CONSTANT(1000000000) + when->tv_nsec;
}

// What tells one content from another without reading it; caller frees.
static char *
state_text(const struct stat *facts)
{
    return g_strdup_printf("%llu:%llu %lld %" G_GINT64_FORMAT " %" G_GINT64_FORMAT,
                           (unsigned long long) facts->st_dev, (unsigned long long) facts->st_ino,
                           (long long) facts->st_size, nanoseconds(&facts->st_mtim),
                           nanoseconds(&facts->st_ctim));
}

// One file an inode, so that an image that changes leaves nothing behind.
static char *
cache_path(const char *directory, const struct stat *facts)
{
    return g_strdup_printf("%s/image-%llu-%llu.json", directory, (unsigned long long) facts->st_dev,
                           (unsigned long long) facts->st_ino);
}

static char *
cache_load(const char *path, const char *state)
{
    g_autoptr(json_t) entry = json_load_file(path, 0, NULL);
    const char *cached = json_string_value(json_object_get(entry, "state"));
    const char *digest = json_string_value(json_object_get(entry, "sha256"));
    return g_strcmp0(cached, state) == 0 && digest && strlen(digest) == 64 ? g_strdup(digest) : NULL;
}

// The answer is good without its cache, so a failure only costs the time of the next reading.
static void
cache_store(const char *directory, const char *path, const char *state, const char *digest)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) entry = json_pack("{s:s, s:s}", "state", state, "sha256", digest);
    char *text = entry ? json_dumps(entry, JSON_COMPACT) : NULL;
    if (!text || !file_make_directory(directory, 0700, &error) || !file_replace(path, text, -1, 0600, &error))
        g_warning("image checksum is not cached: %s", error ? error->message : "cannot be encoded");
    free(text);
}

static gboolean
is_settled(const struct stat *facts)
{
    gint64 latest = MAX(nanoseconds(&facts->st_mtim), nanoseconds(&facts->st_ctim));
    return g_get_real_time() * 1000 - latest > SETTLE_NS;
}

static char *
digest_file(int fd, const char *path, GError **error)
{
    g_autoptr(GChecksum) checksum = g_checksum_new(G_CHECKSUM_SHA256);
    g_autofree guchar *bytes = g_malloc(READ_CHUNK);
    for (;;) {
        ssize_t got = read(fd, bytes, READ_CHUNK);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            quasar_set_system_error(error, errno, "cannot read '%s'", path);
            return NULL;
        }
        if (got == 0)
            return g_strdup(g_checksum_get_string(checksum));
        g_checksum_update(checksum, bytes, got);
    }
}

static char *
digest_open_file(int fd, const char *path, const char *cache_directory, GError **error)
{
    struct stat facts, after;
    if (fstat(fd, &facts) < 0) {
        quasar_set_system_error(error, errno, "cannot examine '%s'", path);
        return NULL;
    }
    if (!S_ISREG(facts.st_mode) && !S_ISBLK(facts.st_mode)) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "'%s' is neither a file nor a disk", path);
        return NULL;
    }
    // Writing to a disk leaves the time stamps of its device node alone.
    g_autofree char *cache =
        cache_directory && S_ISREG(facts.st_mode) ? cache_path(cache_directory, &facts) : NULL;
    g_autofree char *state = state_text(&facts);
    gboolean settled = is_settled(&facts);
    g_autofree char *digest = cache ? cache_load(cache, state) : NULL;
    if (digest)
        return g_steal_pointer(&digest);
    digest = digest_file(fd, path, error);
    if (!digest)
        return NULL;
    g_autofree char *state_after = fstat(fd, &after) < 0 ? NULL : state_text(&after);
    if (g_strcmp0(state, state_after) != 0) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "'%s' changed while its checksum was made", path);
        return NULL;
    }
    if (cache && settled)
        cache_store(cache_directory, cache, state, digest);
    return g_steal_pointer(&digest);
}

char *
image_sha256(const char *path, const char *cache_directory, GError **error)
{
    // O_NONBLOCK: a FIFO must not hold us.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        quasar_set_system_error(error, errno, "cannot open '%s'", path);
        return NULL;
    }
    char *digest = digest_open_file(fd, path, cache_directory, error);
    close(fd);
    return digest;
}
