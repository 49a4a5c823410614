/* Clients of librdkafka as the load programs use them: its own defaults, unless settings say otherwise. */
#ifndef KAFKA_H
#define KAFKA_H

#include "load.h"
#include "rdkafka.h"

/* Requests that the clients of this process have sent, by what they ask for. */
static atomic_ullong produce_requests, fetch_requests;

static rd_kafka_resp_err_t count_request(rd_kafka_t *client, int socket, const char *broker, int32_t broker_id,
                                         int16_t api_key, int16_t version, int32_t correlation, size_t size,
                                         void *opaque) {
    (void)client, (void)socket, (void)broker, (void)broker_id, (void)version, (void)correlation, (void)size;
    (void)opaque;
    if (api_key == 0)
        atomic_fetch_add_explicit(&produce_requests, 1, memory_order_relaxed);
    if (api_key == 1)
        atomic_fetch_add_explicit(&fetch_requests, 1, memory_order_relaxed);
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t watch_requests(rd_kafka_t *client, const rd_kafka_conf_t *conf, void *opaque, char *why,
                                          size_t why_size) {
    (void)conf, (void)opaque, (void)why, (void)why_size;
    return rd_kafka_interceptor_add_on_request_sent(client, "count", count_request, NULL);
}

/* A configuration with whatever of `settings` is not the program's own. */
static inline rd_kafka_conf_t *configure(const char *bootstrap, int count, char **settings) {
    char why[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_interceptor_add_on_new(conf, "watch", watch_requests, NULL);
    if (rd_kafka_conf_set(conf, "bootstrap.servers", bootstrap, why, sizeof why))
        die("%s", why);
    for (int i = 0; i < count; i++) {
        if (!strncmp(settings[i], "load.", 5))
            continue;
        char *setting = strdup(settings[i]);
        char *value = strchr(setting, '=');
        if (!value)
            die("%s is no setting", setting);
        *value++ = 0;
        if (rd_kafka_conf_set(conf, setting, value, why, sizeof why))
            die("%s", why);
        free(setting);
    }
    return conf;
}

/* Sets what the program itself needs. */
static inline void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char why[512];
    if (rd_kafka_conf_set(conf, name, value, why, sizeof why))
        die("%s", why);
}

static inline rd_kafka_t *client_new(rd_kafka_type_t type, rd_kafka_conf_t *conf) {
    char why[512];
    rd_kafka_t *client = rd_kafka_new(type, conf, why, sizeof why);
    if (!client)
        die("%s", why);
    return client;
}

static inline rd_kafka_topic_t *topic_new(rd_kafka_t *client, const char *name) {
    rd_kafka_topic_t *topic = rd_kafka_topic_new(client, name, NULL);
    if (!topic)
        die("%s: %s", name, rd_kafka_err2str(rd_kafka_last_error()));
    return topic;
}

/* Waits until the client knows who leads the topic, so that this is no part of what is measured. */
static inline void learn(rd_kafka_t *client, rd_kafka_topic_t *topic) {
    const struct rd_kafka_metadata *metadata;
    rd_kafka_resp_err_t error = rd_kafka_metadata(client, 0, topic, &metadata, 60000);
    if (error)
        die("%s: %s", rd_kafka_topic_name(topic), rd_kafka_err2str(error));
    rd_kafka_metadata_destroy(metadata);
}

#endif
