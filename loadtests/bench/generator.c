/* The bench's load generator: many WebSocket clients on one thread, cheap enough not to be what is measured.
 *
 *   generator PLAN CONCURRENCY
 *
 * Each line of PLAN is one client, fields separated by tabs:
 *   role  source address  host  port  path  subprotocol or -  ready  first payload or -  ping  pong  ack
 * Roles: S subscriber, P publisher (the last one speaks), H publisher by HTTP: each request is a POST to `path` on a
 * connection that is kept, `first` a header of it.
 * In the first payload the byte 0x1e stands for a line break and 0x1d begins another frame.
 * A client is ready when a frame that contains the text `ready` arrived (at once after the upgrade if that is -).
 * When all are ready the line `ready SECONDS CPU` is printed. Then commands are read from standard input, a line each:
 *   measure WARMUP SECONDS WINDOW CHANNELS TEMPLATE   keep WINDOW publications in flight (with H: on as many links)
 *     -> `measured DELIVERIES ACKS SECONDS CPU LOST`  frames of subscribers; answers to publishers that begin with `ack`
 *   pace WARMUP SECONDS RATE CHANNELS TEMPLATE        publish on a schedule that waits for nobody
 *     -> `paced SENT ACKS TIMED SECONDS CPU LOST LATE HISTOGRAM`   TIMED deliveries; see pace()
 *   settle PATIENCE EACH   wait until each publication so far was delivered EACH times, or none came for PATIENCE seconds
 *     -> `settled PUBLISHED DELIVERIES`               since the beginning
 *   quit
 * In TEMPLATE @I is a counter, @C the next of CHANNELS numbers, and @T when it should be sent (0: not to be timed).
 * Frames that equal `ping` are answered with `pong`, and are no deliveries. CPU is what this process used, in seconds.
 */
#include "crowd.h"

/* Fill in the template's @I, @C and @T. */
static size_t fill(char *out, const char *template, uint64_t channels, uint64_t intended) {
    char *at = out;
    for (const char *p = template; *p; p++)
        if (p[0] == '@' && (p[1] == 'I' || p[1] == 'C' || p[1] == 'T')) {
            uint64_t value = *++p == 'I' ? next_id + 10 : *p == 'C' ? next_id % channels : intended;
            at += sprintf(at, "%llu", (unsigned long long)value);
        } else *at++ = *p;
    next_id++;
    sent++;
    return (size_t)(at - out);
}

static struct client *publisher(void) {
    struct client *found = NULL;
    for (size_t i = 0; i < count; i++)
        if (*clients[i].field[ROLE] != 'S') found = &clients[i];
    if (!found) { errno = EINVAL; die("no publisher in the plan"); }
    return found;
}

/* What the slice before left unanswered may be answered in this one. */
static uint64_t in_flight(void) { return sent > acks ? sent - acks : 0; }

static char outgoing[4 * BUFFER], payload[BUFFER];

static void publish(struct client *c, uint64_t window, uint64_t channels, const char *template) {
    size_t used = 0;
    while (in_flight() < window && used < 2 * BUFFER)
        used += frame(outgoing + used, payload, fill(payload, template, channels, 0));
    if (used) put(c, outgoing, used);
}

static void post(uint64_t window, uint64_t channels, const char *template) {
    for (size_t i = 0; i < count && in_flight() < window; i++) {
        struct client *c = &clients[i];
        if (*c->field[ROLE] != 'H' || c->asked || c->state != READY) continue;
        size_t size = fill(payload, template, channels, 0);
        int head = sprintf(outgoing, "POST %s HTTP/1.1\r\nHost: %s\r\n%s%sContent-Length: %zu\r\n\r\n", c->field[PATH],
                           c->field[HOST], *c->field[FIRST] == '-' ? "" : c->field[FIRST],
                           *c->field[FIRST] == '-' ? "" : "\r\n", size);
        memcpy(outgoing + head, payload, size);
        c->asked = 1;
        put(c, outgoing, (size_t)head + size);
    }
}

static void measure(double warmup, double seconds, uint64_t window, uint64_t channels, const char *template) {
    struct client *c = publisher();
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
        if (*c->field[ROLE] == 'H') post(window, channels, template);
        else publish(c, window, channels, template);
        turn(10);
    }
    double took = now() - start;
    printf("measured %llu %llu %.6f %.6f %zu\n", (unsigned long long)(deliveries - first_deliveries),
           (unsigned long long)(acks - first_acks), took, cpu() - cpu_start, gone);
    fflush(stdout);
    for (double stop = now() + 2; sent > acks && now() < stop;) turn(10);
}

/* Turn until the moment has come, woken by a clock with the kernel's precision: epoll's own counts milliseconds. */
static void turn_until(uint64_t moment) {
    static int timer = -1;
    struct itimerspec when = {.it_value = {(time_t)(moment / 1000000000), (long)(moment % 1000000000)}};
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    if (timer < 0) {
        timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
        if (timer < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, timer, &e)) die("timerfd");
    }
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL); /* also takes back that it has run out */
    do turn(1000);
    while (nanoseconds() < moment);
}

/* Each publication has its moment, whatever became of those before, and is timed from then on: what is late because
 * the server (or this program) stood still counts as late. What is still on its way at the end is waited for.
 * LATE is by how many microseconds this program itself was late, the 99th percentile; HISTOGRAM as `MICROSECONDS:COUNT`
 * with commas. */
static void pace(double warmup, double seconds, double rate, uint64_t channels, const char *template) {
    struct client *c = publisher();
    static struct histogram lateness;
    uint64_t start = nanoseconds(), timed_from = start + (uint64_t)(warmup * 1e9), timed = 0, acks_before = 0;
    uint64_t end = timed_from + (uint64_t)(seconds * 1e9), moment = start, number = 0;
    double cpu_start = cpu();
    if (*c->field[ROLE] != 'P') { errno = EINVAL; die("pace is for WebSocket publishers"); }
    histogram_clear(&latencies);
    histogram_clear(&lateness);
    acks = sent = 0;
    arrived = start;
    while (moment < end) {
        turn_until(moment);
        size_t used = 0;
        for (uint64_t t = nanoseconds(); moment <= t && moment < end && used < 2 * BUFFER;
             moment = start + (uint64_t)((double)++number / rate * 1e9)) {
            int counts = moment >= timed_from;
            if (counts && !timed++) { cpu_start = cpu(); acks_before = sent; }
            if (counts) histogram_add(&lateness, (t - moment) / 1000);
            used += frame(outgoing + used, payload, fill(payload, template, channels, counts ? moment : 0));
        }
        if (used) put(c, outgoing, used);
    }
    double took = (nanoseconds() - timed_from) / 1e9, used = cpu() - cpu_start;
    uint64_t seen = deliveries - 1, quiet_since = nanoseconds();
    for (uint64_t stop = quiet_since + 10000000000; nanoseconds() < stop; turn(10)) {
        if (seen != deliveries) { seen = deliveries; quiet_since = nanoseconds(); }
        if (sent <= acks && nanoseconds() - quiet_since > 200000000) break;
    }
    arrived = 0;
    printf("paced %llu %llu %llu %.6f %.6f %zu %llu ", (unsigned long long)timed,
           (unsigned long long)(acks > acks_before ? acks - acks_before : 0), (unsigned long long)latencies.total, took,
           used, gone, (unsigned long long)histogram_quantile(&lateness, 0.99));
    histogram_print(&latencies);
    fflush(stdout);
}

static void settle(double patience, uint64_t each) {
    uint64_t seen = deliveries;
    for (double stop = now() + patience; deliveries < next_id * each && now() < stop; turn(10))
        if (seen != deliveries) { seen = deliveries; stop = now() + patience; }
    printf("settled %llu %llu\n", (unsigned long long)next_id, (unsigned long long)deliveries);
    fflush(stdout);
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
        for (char *p = clients[count].field[FIRST]; *p; p++)
            if (*p == 0x1e) *p = '\n';
        clients[count].fd = -1;
        count++;
    }
    free(line);
    fclose(file);
}

/* Obey a line of standard input, if a whole one is there; end with whoever drives us. */
static void converse(void) {
    static char line[BUFFER];
    static size_t held;
    double warmup, seconds, rate;
    unsigned long long window, channels;
    int at = 0;
    ssize_t n = read(0, line + held, sizeof line - held - 1);
    if (!n) exit(0);
    if (n < 0) { turn(20); return; }
    held += (size_t)n;
    if (line[held - 1] != '\n') return; /* the rest of a long template is on its way */
    line[held - 1] = 0;
    held = 0;
    if (sscanf(line, "measure %lf %lf %llu %llu %n", &warmup, &seconds, &window, &channels, &at) == 4 && at)
        measure(warmup, seconds, window, channels, line + at);
    else if (sscanf(line, "pace %lf %lf %lf %llu %n", &warmup, &seconds, &rate, &channels, &at) == 4 && at)
        pace(warmup, seconds, rate, channels, line + at);
    else if (sscanf(line, "settle %lf %llu", &seconds, &window) == 2) settle(seconds, window);
    else exit(0);
}

/* As many sockets as we may have: the usual soft limit is for programs that use select(). */
static void raise_limit(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files)) return;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

int main(int argc, char **argv) {
    if (argc != 3) { fprintf(stderr, "usage: generator PLAN CONCURRENCY\n"); return 2; }
    raise_limit();
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
    for (;;) converse();
}
