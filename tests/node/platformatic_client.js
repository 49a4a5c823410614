/*
 * @platformatic/kafka against a broker: usage: platformatic_client.js HOST:PORT [PART...]
 *
 * Produces with every codec, keys and headers; consumes in groups of both protocols; runs transactions of which the
 * aborted one stays invisible, with offsets; and walks through its admin client. Prints "ok" at the end.
 */
'use strict'

const assert = require('node:assert/strict')
const { randomUUID } = require('node:crypto')
const { Admin, Consumer, Producer, stringDeserializers, stringSerializers } = require('@platformatic/kafka')

const base = { clientId: 'compat', bootstrapBrokers: [process.argv[2]] }
const DEADLINE_MS = 60_000
const READ_COMMITTED = 1
const TOPIC = 2
const SET = 0
const admin = new Admin(base)
const numbers = count => [...Array(count).keys()]

async function until(condition, what) {
  const end = Date.now() + DEADLINE_MS
  while (!(await condition())) {
    assert.ok(Date.now() < end, `not in time: ${what()}`)
    await new Promise(resume => setTimeout(resume, 20))
  }
}

async function topic(partitions) {
  const name = `platformatic-${randomUUID()}`
  const created = await admin.createTopics({ topics: [name], partitions, replicas: 1 })
  assert.deepEqual([created[0].name, created[0].partitions], [name, partitions])
  return name
}

function producer(options = {}) {
  return new Producer({ ...base, serializers: stringSerializers, ...options })
}

/** A consumer of a group that pushes what it reads. */
async function member(name, seen, options) {
  const consumer = new Consumer({
    ...base, groupId: randomUUID(), deserializers: stringDeserializers, maxWaitTime: 200, ...options,
  })
  const stream = await consumer.consume({
    topics: [name], mode: 'committed', fallbackMode: 'earliest', isolationLevel: READ_COMMITTED, autocommit: false,
  })
  stream.on('data', message => seen.push(message))
  return consumer
}

/** Reads `count` records of a topic. */
async function readAll(name, count, options) {
  const seen = []
  const consumer = await member(name, seen, options)
  await until(() => seen.length >= count, () => `${seen.length} of ${count} records`)
  await consumer.close(true)
  return seen
}

async function codecs() {
  const name = await topic(1)
  let count = 0
  for (const compression of ['none', 'gzip', 'snappy', 'lz4', 'zstd']) {
    const client = producer({ idempotent: true, compression })
    const messages = numbers(200).map(n => ({
      topic: name, key: `${compression}-${n}`, value: `value ${n} `.repeat(20), headers: { codec: compression },
    }))
    await client.send({ messages })
    await client.close()
    count += messages.length
  }
  const seen = await readAll(name, count)
  assert.deepEqual(seen.map(({ offset }) => Number(offset)), numbers(count))
  for (const { key, value, headers } of seen) {
    const [codec, n] = key.split('-')
    assert.equal(value, `value ${n} `.repeat(20))
    assert.equal(headers.get('codec'), codec)
  }
}

async function groupOfTwo(groupProtocol) {
  const name = await topic(4)
  const client = producer()
  await client.send({ messages: numbers(400).map(n => ({ topic: name, partition: n % 4, value: String(n) })) })
  await client.close()
  const [groupId, seen] = [randomUUID(), []]
  const timing = { sessionTimeout: 6000, heartbeatInterval: 500, rebalanceTimeout: 6000 }
  const options = groupProtocol === 'consumer' ? { groupId, groupProtocol } : { groupId, ...timing }
  const owned = consumer => (consumer.assignments ?? []).flatMap(it => it.topic === name ? it.partitions : [])
  const first = await member(name, seen, options)
  await until(() => owned(first).length === 4, () => owned(first))
  const second = await member(name, seen, options)
  const both = () => [owned(first), owned(second)]
  await until(() => owned(first).length === 2 && owned(second).length === 2, () => JSON.stringify(both()))
  assert.deepEqual(both().flat().sort(), [0, 1, 2, 3])
  const values = () => new Set(seen.map(({ value }) => value))
  await until(() => values().size === 400, () => `${values().size} of 400 values`)
  assert.ok((await admin.listGroups({ types: ['classic', 'consumer'] })).has(groupId))
  await first.close(true)
  await until(() => owned(second).length === 4, () => owned(second))
  const offsets = numbers(4).map(partition => ({ topic: name, partition, offset: 100n, leaderEpoch: 0 }))
  await second.commit({ offsets })
  await second.close(true)
  const [committed] = await admin.listConsumerGroupOffsets({ groups: [groupId] })
  const sum = committed.topics[0].partitions.reduce((sum, it) => sum + Number(it.committedOffset), 0)
  assert.equal(sum, 400)
  await admin.deleteGroups({ groups: [groupId] })
}

const classicGroup = () => groupOfTwo('classic')
const consumerGroup = () => groupOfTwo('consumer')

async function transactions() {
  const [source, target] = [await topic(1), await topic(2)]
  const plain = producer()
  await plain.send({ messages: numbers(10).map(n => ({ topic: source, value: String(n) })) })
  await plain.close()
  const client = producer({ idempotent: true, transactionalId: randomUUID() })
  const groupId = randomUUID()
  const seen = []
  const consumer = await member(source, seen, { groupId })
  await until(() => seen.length === 10, () => `${seen.length} of 10 records`)
  // One aborted transaction: of several by one producer in a fetch, this client leaves out the last alone.
  for (const [attempt, commit] of [true, false, true].entries()) {
    const transaction = await client.beginTransaction()
    await transaction.addConsumer(consumer)
    const messages = numbers(50).map(n => ({ topic: target, partition: n % 2, value: `${attempt}-${n}` }))
    await transaction.send({ messages })
    await transaction.addOffset(seen[attempt + 4])
    await (commit ? transaction.commit() : transaction.abort())
  }
  await consumer.close(true)
  await client.close()
  const want = [0, 2].flatMap(attempt => numbers(50).map(n => `${attempt}-${n}`))
  const got = await readAll(target, want.length)
  assert.deepEqual(got.map(({ value }) => value).sort(), want.sort())
  await until(async () => {
    const [committed] = await admin.listConsumerGroupOffsets({ groups: [groupId] })
    const offset = committed.topics[0]?.partitions[0]?.committedOffset
    // The record after the one that the last transaction names, or that record itself.
    return offset === 6n || offset === 7n
  }, () => 'the offset of the last transaction')
}

async function administration() {
  const name = await topic(2)
  await admin.createPartitions({ topics: [{ name, count: 3, assignments: [{ brokerIds: [1] }] }] })
  assert.ok((await admin.listTopics()).includes(name))
  const client = producer()
  await client.send({ messages: numbers(10).map(n => ({ topic: name, partition: 0, value: String(n) })) })
  await client.close()
  const setting = { name: 'retention.ms', value: '86400000' }
  await admin.incrementalAlterConfigs({
    resources: [{ resourceType: TOPIC, resourceName: name, configs: [{ ...setting, configOperation: SET }] }],
  })
  await until(async () => {
    const [described] = await admin.describeConfigs({ resources: [{ resourceType: TOPIC, resourceName: name }] })
    return described.configs.find(it => it.name === setting.name).value === setting.value
  }, () => 'the new setting')
  const [deleted] = await admin.deleteRecords({ topics: [{ name, partitions: [{ partition: 0, offset: 4n }] }] })
  assert.equal(deleted.partitions[0].lowWatermark, 4n)
  const listed = await admin.listOffsets({ topics: [{ name, partitions: [{ partitionIndex: 0, timestamp: -1n }] }] })
  assert.equal(listed[0].partitions[0].offset, 10n)
  const [dirs] = await admin.describeLogDirs({ topics: [{ name, partitions: [0, 1, 2] }] })
  assert.equal(dirs.results[0].topics[0].partitions.length, 3)
  await admin.deleteTopics({ topics: [name] })
  await until(async () => !(await admin.listTopics()).includes(name), () => 'the topic is gone')
}

async function main() {
  const wanted = process.argv.slice(3)
  for (const part of [codecs, classicGroup, consumerGroup, transactions, administration]) {
    if (wanted.length > 0 && !wanted.includes(part.name)) continue
    await part()
    console.log(`${part.name} ok`)
  }
  await admin.close()
  console.log('ok')
}

main().catch(error => {
  console.error(error)
  process.exit(1)
})
