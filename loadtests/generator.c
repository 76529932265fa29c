/* The bench's load generator: many WebSocket clients on one thread, cheap enough not to be what is measured.
 *
 *   generator PLAN CONCURRENCY
 *
 * Each line of PLAN is one client, fields separated by tabs:
 *   role (S subscriber, P publisher)  source address  host  port  path  subprotocol or -  ready  first payload or -
 * In the first payload the byte 0x1e stands for a line break.
 * A client is ready when a frame that contains the text `ready` arrived (at once after the upgrade if that is -).
 * When all are ready the line `ready SECONDS CPU` is printed. Then commands are read from standard input:
 *   measure WARMUP SECONDS WINDOW CHANNELS TEMPLATE   the publishers keep WINDOW publications in flight; in TEMPLATE
 *                                                     @I is a counter and @C the next of CHANNELS numbers
 *     -> `measured DELIVERIES ACKS SECONDS CPU LOST`  frames of subscribers, and of publishers that contain "id":
 *   quit
 * Frames that hold {} are pings and are answered with {}. CPU is what this process used, in seconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 16, MAX_EVENTS = 512, FIELDS = 8 };
enum state { WAITING, CONNECTING, UPGRADING, STARTING, READY, GONE };

struct client {
    char *field[FIELDS];
    int fd;
    enum state state;
    char *rest; /* the unfinished tail of what was read */
    size_t held;
};

static struct client *clients;
static size_t count, started, ready, gone;
static int poller;
static uint64_t deliveries, acks, sent, next_id;
static char scratch[2 * BUFFER];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static double cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void die(const char *what) {
    fprintf(stderr, "generator: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void drop(struct client *c) {
    if (c->state == GONE) return;
    if (c->fd >= 0) close(c->fd);
    c->state = GONE;
    gone++;
}

static void put(struct client *c, const char *data, size_t size) {
    while (size) {
        ssize_t n = send(c->fd, data, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) { usleep(100); continue; }
        if (n < 0) { drop(c); return; }
        data += n;
        size -= (size_t)n;
    }
}

/* A masked text frame; the key is zero, so the payload goes out as it is. */
static size_t frame(char *out, const char *payload, size_t size) {
    size_t head = 2;
    out[0] = (char)0x81;
    if (size < 126) out[1] = (char)(0x80 | size);
    else { out[1] = (char)(0x80 | 126); out[2] = (char)(size >> 8); out[3] = (char)size; head = 4; }
    memset(out + head, 0, 4);
    memcpy(out + head + 4, payload, size);
    return head + 4 + size;
}

static void say(struct client *c, const char *payload, size_t size) {
    static char out[BUFFER + 16];
    put(c, out, frame(out, payload, size));
}

static void begin(struct client *c) {
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) die("socket");
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    inet_pton(AF_INET, c->field[1], &from.sin_addr);
    if (bind(c->fd, (struct sockaddr *)&from, sizeof from)) die("bind");
    inet_pton(AF_INET, c->field[2], &to.sin_addr);
    to.sin_port = htons((uint16_t)atoi(c->field[3]));
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) die("connect");
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e)) die("epoll_ctl");
    c->state = CONNECTING;
}

static void upgrade(struct client *c) {
    static char head[BUFFER];
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    int n = snprintf(head, sizeof head,
                     "GET %s HTTP/1.1\r\nHost: %s:%s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s%s%s\r\n",
                     c->field[4], c->field[2], c->field[3], *c->field[5] == '-' ? "" : "Sec-WebSocket-Protocol: ",
                     *c->field[5] == '-' ? "" : c->field[5], *c->field[5] == '-' ? "" : "\r\n");
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
    c->state = UPGRADING;
    put(c, head, (size_t)n);
}

static void become_ready(struct client *c) {
    c->state = READY;
    ready++;
}

static void upgraded(struct client *c) {
    c->state = STARTING;
    if (strcmp(c->field[7], "-")) say(c, c->field[7], strlen(c->field[7]));
    if (!strcmp(c->field[6], "-")) become_ready(c);
}

static void message(struct client *c, const char *payload, size_t size) {
    if (size == 2 && !memcmp(payload, "{}", 2)) { say(c, "{}", 2); return; }
    if (c->state == STARTING && memmem(payload, size, c->field[6], strlen(c->field[6]))) { become_ready(c); return; }
    if (c->state != READY) return;
    if (*c->field[0] == 'S') deliveries++;
    else if (size > 5 && !memcmp(payload, "{\"id\":", 6)) acks++;
}

/* Take whole frames off the front; return how many bytes they were. */
static size_t frames(struct client *c, const char *data, size_t size) {
    size_t at = 0;
    while (size - at >= 2) {
        const unsigned char *p = (const unsigned char *)data + at;
        size_t length = p[1] & 127, head = 2;
        if (length == 126) {
            if (size - at < 4) break;
            length = (size_t)p[2] << 8 | p[3];
            head = 4;
        } else if (length == 127) {
            if (size - at < 10) break;
            length = (size_t)p[6] << 24 | (size_t)p[7] << 16 | (size_t)p[8] << 8 | p[9];
            head = 10;
        }
        if (size - at < head + length) break;
        if ((p[0] & 15) == 8) { drop(c); return size; }
        if ((p[0] & 15) == 1) message(c, data + at + head, length);
        at += head + length;
    }
    return at;
}

static void take(struct client *c, char *data, size_t size) {
    size_t used;
    if (c->state == UPGRADING) {
        char *end = memmem(data, size, "\r\n\r\n", 4);
        if (!end) { used = 0; goto keep; }
        if (size < 12 || memcmp(data + 9, "101", 3)) {
            fprintf(stderr, "generator: refused: %.*s\n", 60, data);
            drop(c);
            return;
        }
        upgraded(c);
        used = (size_t)(end - data) + 4;
        used += frames(c, data + used, size - used);
    } else used = frames(c, data, size);
keep:
    if (c->state == GONE) return;
    c->held = size - used;
    if (c->held) {
        if (c->held > BUFFER) { drop(c); return; }
        if (!c->rest && !(c->rest = malloc(BUFFER))) die("malloc");
        memcpy(c->rest, data + used, c->held);
    } else if (c->rest) {
        free(c->rest);
        c->rest = NULL;
    }
}

static void readable(struct client *c) {
    if (c->held) memcpy(scratch, c->rest, c->held);
    ssize_t n = recv(c->fd, scratch + c->held, BUFFER, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) { drop(c); return; }
    take(c, scratch, c->held + (size_t)n);
}

static void turn(int timeout) {
    static struct epoll_event events[MAX_EVENTS];
    int n = epoll_wait(poller, events, MAX_EVENTS, timeout);
    for (int i = 0; i < n; i++) {
        struct client *c = events[i].data.ptr;
        if (c->state == GONE) continue;
        if (c->state == CONNECTING && events[i].events & EPOLLOUT) upgrade(c);
        else if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) readable(c);
    }
}

/* Fill in the template's @I and @C. */
static size_t fill(char *out, const char *template, uint64_t id, uint64_t channel) {
    char *at = out;
    for (const char *p = template; *p; p++)
        if (p[0] == '@' && (p[1] == 'I' || p[1] == 'C'))
            at += sprintf(at, "%llu", (unsigned long long)(*++p == 'I' ? id : channel));
        else *at++ = *p;
    return (size_t)(at - out);
}

static void publish(struct client *c, uint64_t window, uint64_t channels, const char *template) {
    static char out[4 * BUFFER], payload[BUFFER];
    size_t used = 0;
    while (sent - acks < window && used < 2 * BUFFER) {
        size_t size = fill(payload, template, next_id + 10, next_id % channels);
        used += frame(out + used, payload, size);
        next_id++;
        sent++;
    }
    if (used) put(c, out, used);
}

static void measure(double warmup, double seconds, uint64_t window, uint64_t channels, const char *template) {
    struct client *publisher = NULL;
    for (size_t i = 0; i < count; i++)
        if (*clients[i].field[0] == 'P') publisher = &clients[i];
    if (!publisher) die("no publisher in the plan");
    double start = now() + warmup, end = start + seconds, cpu_start = 0;
    uint64_t first_deliveries = 0, first_acks = 0;
    int counting = 0;
    acks = sent = 0;
    for (double t = now(); t < end; t = now()) {
        if (!counting && t >= start) {
            counting = 1;
            start = t;
            cpu_start = cpu();
            first_deliveries = deliveries;
            first_acks = acks;
        }
        publish(publisher, window, channels, template);
        turn(10);
    }
    double took = now() - start;
    printf("measured %llu %llu %.6f %.6f %zu\n", (unsigned long long)(deliveries - first_deliveries),
           (unsigned long long)(acks - first_acks), took, cpu() - cpu_start, gone);
    fflush(stdout);
    for (double stop = now() + 2; sent > acks && now() < stop;) turn(10);
}

static void load(const char *path) {
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    if (!file) die(path);
    for (ssize_t n; (n = getline(&line, &room, file)) > 0;) {
        if (line[n - 1] == '\n') line[n - 1] = 0;
        clients = realloc(clients, (count + 1) * sizeof *clients);
        memset(&clients[count], 0, sizeof *clients);
        char *copy = strdup(line);
        for (int i = 0; i < FIELDS; i++) clients[count].field[i] = strsep(&copy, "\t");
        if (!clients[count].field[FIELDS - 1]) die("a line of the plan has too few fields");
        for (char *p = clients[count].field[7]; *p; p++)
            if (*p == 0x1e) *p = '\n';
        clients[count].fd = -1;
        count++;
    }
    free(line);
    fclose(file);
}

int main(int argc, char **argv) {
    if (argc != 3) { fprintf(stderr, "usage: generator PLAN CONCURRENCY\n"); return 2; }
    load(argv[1]);
    size_t concurrency = (size_t)atoi(argv[2]);
    poller = epoll_create1(0);
    double start = now();
    while (ready + gone < count) {
        while (started < count && started - ready - gone < concurrency) begin(&clients[started++]);
        turn(100);
        if (now() - start > 120) { errno = ETIMEDOUT; die("not all clients became ready"); }
    }
    if (gone) { errno = ECONNRESET; die("a client was refused or cut off"); }
    printf("ready %.6f %.6f\n", now() - start, cpu());
    fflush(stdout);
    fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK);
    static char command[BUFFER];
    for (;;) {
        ssize_t n = read(0, command, sizeof command - 1);
        if (!n) return 0;
        if (n < 0) { turn(20); continue; }
        command[n] = 0;
        double warmup, seconds;
        unsigned long long window, channels;
        int at = 0;
        if (sscanf(command, "measure %lf %lf %llu %llu %n", &warmup, &seconds, &window, &channels, &at) == 4 && at) {
            command[strcspn(command, "\n")] = 0;
            measure(warmup, seconds, window, channels, command + at);
        } else return 0;
    }
}
