/* Reads paced streams and tells how late their pieces come. Its work for a piece is a few hundred nanoseconds, so that
 * on a core of its own it adds next to nothing to the lateness that it measures.
 *
 *   paced PORT STREAMS SPREAD    reads a request from its standard input, and sends it on STREAMS connections, spread
 *                                evenly over SPREAD milliseconds
 *
 * The text of a piece is the time at which the model yields it, in seconds of CLOCK_MONOTONIC. Pieces count from the
 * first one of the last stream until the first stream ends: then all streams are open. It prints "steady" and "ended"
 * at those moments, and at last the number of pieces, the percentiles 50, 99 and 99.9 of their lateness and the largest
 * one, in microseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 4096
#define KEPT 64 /* bytes of a read that may belong to a text which continues in the next one */

typedef struct {
    int fd, started, ended;
    size_t kept;
    char tail[KEPT];
} Stream;

static Stream streams[MOST];
static char request[65536];
static int *late;
static size_t count, room;
static int begun, ended, total;

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void note(double lateness) {
    if (begun < total || ended) return;
    if (count == room) {
        room = room ? 2 * room : 1 << 16;
        late = realloc(late, room * sizeof *late);
        if (!late) fail("realloc");
    }
    late[count++] = (int)(lateness * 1e6);
}

/* Take the bytes of one read; `at` is its time. */
static void take(Stream *stream, const char *data, size_t size, double at) {
    static char joined[KEPT + (1 << 16) + 1];
    static const char NAME[] = "\"content\":";
    memcpy(joined, stream->tail, stream->kept);
    memcpy(joined + stream->kept, data, size);
    size += stream->kept;
    joined[size] = 0;
    char *place = joined, *end = joined + size, *whole = joined;
    while ((place = memmem(place, end - place, NAME, sizeof NAME - 1))) {
        char *text = place + sizeof NAME - 1, *rest;
        while (text < end && (*text == ' ' || *text == '"')) text++;
        double due = strtod(text, &rest);
        if (rest >= end) break; /* the text continues in the next read */
        whole = place = rest;
        if (due <= 0) continue;
        if (!stream->started) {
            stream->started = 1;
            if (++begun == total) puts("steady"), fflush(stdout);
        }
        note(at - due);
    }
    if (!stream->ended && size >= 5 && !memcmp(end - 5, "0\r\n\r\n", 5)) {
        stream->ended = 1;
        if (!ended++) puts("ended"), fflush(stdout);
    }
    size_t left = end - whole;
    stream->kept = left < KEPT ? left : KEPT;
    memmove(stream->tail, end - stream->kept, stream->kept);
}

static int by_size(const void *one, const void *other) { return *(const int *)one - *(const int *)other; }

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    total = atoi(argv[2]);
    if (total < 1 || total > MOST) return 2;
    double gap = atof(argv[3]) / 1e3 / total;
    size_t length = fread(request, 1, sizeof request, stdin);
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int poll = epoll_create1(0);
    for (int i = 0; i < total; i++) {
        int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&server, sizeof server)) fail("connect");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        fcntl(fd, F_SETFL, O_NONBLOCK);
        streams[i].fd = fd;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &streams[i]};
        epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
    }
    double start = now();
    int sent = 0;
    struct epoll_event events[256];
    static char data[1 << 16];
    while (ended < total) {
        double at = now();
        if (at - start > 120) return 1;
        while (sent < total && at >= start + sent * gap)
            if (write(streams[sent++].fd, request, length) != (ssize_t)length) fail("write");
        int found = epoll_wait(poll, events, 256, sent < total ? 1 : 1000);
        for (int i = 0; i < found; i++) {
            Stream *stream = events[i].data.ptr;
            ssize_t size = recv(stream->fd, data, sizeof data, 0);
            if (size > 0) {
                take(stream, data, size, now());
            } else if (!size || errno != EAGAIN) {
                if (!stream->ended) {
                    fprintf(stderr, "a stream ended early\n");
                    return 1;
                }
                epoll_ctl(poll, EPOLL_CTL_DEL, stream->fd, NULL);
            }
        }
    }
    if (!count) return 1;
    qsort(late, count, sizeof *late, by_size);
    printf("%zu %d %d %d %d\n", count, late[count / 2], late[count * 99 / 100], late[count * 999 / 1000], late[count - 1]);
    return 0;
}
