/* The floor of a load test: streams read by one thread as soon as the kernel has their bytes.
 *
 *   probe PORT PATH STREAMS SECONDS RAMP     RAMP: seconds over which the streams begin, evenly
 *
 * Each connection sends its next request when an answer has ended, until SECONDS have passed. Prints as JSON the gaps
 * between the events of a stream, in ms: the mean error against 20 ms in percent, percentiles, and the CPU of an event
 * in us. An event is a read that has "content" in it; with several in one read, the others have a gap of 0.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#define SCHEDULE 20.0 /* ms */

typedef struct {
    int fd, open;
    double last; /* ms; 0: no event yet */
} Stream;

static double *gaps;
static size_t count, room;
static char request[1024];
static int request_size;

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1e3 + at.tv_nsec / 1e6;
}

static void note(double gap) {
    if (count == room) gaps = realloc(gaps, (room = room ? 2 * room : 1 << 20) * sizeof *gaps);
    gaps[count++] = gap;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void ask(Stream *stream) {
    stream->last = 0;
    stream->open = send(stream->fd, request, request_size, 0) == request_size;
}

/* Reads what there is; returns the number of events. */
static long take(Stream *stream, int again) {
    static char bytes[65536];
    ssize_t size = recv(stream->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    double at = now();
    long events = 0;
    if (size <= 0) {
        stream->open = size < 0 && stream->open;
        return 0;
    }
    char *place = bytes, *end = bytes + size;
    while ((place = memmem(place, end - place, "\"content\"", 9))) {
        if (stream->last) note(at - stream->last);
        stream->last = at;
        place++;
        events++;
    }
    if (memmem(bytes, size, "[DONE]", 6)) {
        if (again) ask(stream);
        else stream->open = 0;
    }
    return events;
}

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    int streams = atoi(argv[3]), begun = 0, open = 0, one = 1;
    double seconds = atof(argv[4]), ramp = atof(argv[5]), start = now(), error = 0;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    const char *body = "{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
    request_size = snprintf(request, sizeof request, "POST %s HTTP/1.1\r\nHost: bench\r\nContent-Length: %zu\r\n\r\n%s",
                            argv[2], strlen(body), body);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    Stream *every = calloc(streams, sizeof *every);
    struct epoll_event ready[512];
    long events = 0;
    int poll = epoll_create1(0);
    do {
        double passed = (now() - start) / 1e3;
        for (; begun < streams && passed >= ramp * begun / streams; begun++) {
            Stream *stream = every + begun;
            struct epoll_event wanted = {EPOLLIN, {.ptr = stream}};
            stream->fd = socket(AF_INET, SOCK_STREAM, 0);
            setsockopt(stream->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            if (connect(stream->fd, (void *)&address, sizeof address)) return 1;
            epoll_ctl(poll, EPOLL_CTL_ADD, stream->fd, &wanted);
            ask(stream);
        }
        int some = epoll_wait(poll, ready, 512, begun < streams ? 1 : 100);
        for (int i = 0; i < some; i++) events += take(ready[i].data.ptr, passed < seconds);
        open = begun < streams;
        for (int i = 0; i < begun && !open && passed >= seconds; i++) open = every[i].open;
        open |= passed < seconds;
    } while (open);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    for (size_t i = 0; i < count; i++) error += gaps[i] > SCHEDULE ? gaps[i] - SCHEDULE : SCHEDULE - gaps[i];
    qsort(gaps, count, sizeof *gaps, ascending);
    if (!count) return 1;
    printf("{\"tokens\":%ld,\"error\":%.2f,\"p50\":%.2f,\"p99\":%.2f,\"max\":%.2f,\"cost\":%.2f}\n", events,
           100 * error / count / SCHEDULE, gaps[count / 2], gaps[(size_t)(count * 0.99)], gaps[count - 1],
           cpu / events * 1e6);
    return 0;
}
