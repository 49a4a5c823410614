/*
 * kafkajs against a broker: usage: kafkajs_client.js HOST:PORT [PART...]
 *
 * Produces with keys, headers and gzip; consumes in a group of two with a rebalance; runs transactions of which the
 * aborted one stays invisible, with offsets; and walks through its admin client. Prints "ok" at the end.
 */
'use strict'

const assert = require('node:assert/strict')
const { randomUUID } = require('node:crypto')
const { CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = require('kafkajs')

const BROKERS = [process.argv[2]]
const DEADLINE_MS = 60_000
const kafka = new Kafka({ clientId: 'compat', brokers: BROKERS, logLevel: logLevel.NOTHING })
const admin = kafka.admin()
const words = numbers => numbers.map(String)

async function until(condition, what) {
  const end = Date.now() + DEADLINE_MS
  while (!(await condition())) {
    assert.ok(Date.now() < end, `not in time: ${what()}`)
    await new Promise(resume => setTimeout(resume, 20))
  }
}

async function topic(numPartitions) {
  const name = `kafkajs-${randomUUID()}`
  assert.equal(await admin.createTopics({ waitForLeaders: true, topics: [{ topic: name, numPartitions }] }), true)
  return name
}

/** A consumer of a group that pushes what it reads. */
async function member(groupId, name, seen) {
  const consumer = kafka.consumer({ groupId, sessionTimeout: 6000, heartbeatInterval: 500, maxWaitTimeInMs: 200 })
  const owned = new Set()
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    owned.clear()
    for (const partition of payload.memberAssignment[name] ?? []) owned.add(partition)
  })
  await consumer.connect()
  await consumer.subscribe({ topics: [name], fromBeginning: true })
  await consumer.run({ eachMessage: async read => void seen.push(read) })
  return { consumer, owned }
}

async function codecs() {
  const name = await topic(1)
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  for (const compression of [CompressionTypes.None, CompressionTypes.GZIP]) {
    const messages = words([...Array(200).keys()]).map(n => ({
      key: `${compression}-${n}`, value: `value ${n} `.repeat(20), headers: { codec: `${compression}` },
    }))
    await producer.send({ topic: name, acks: -1, compression, messages })
  }
  await producer.disconnect()
  const seen = []
  const { consumer } = await member(randomUUID(), name, seen)
  await until(() => seen.length >= 400, () => seen.length)
  await consumer.disconnect()
  assert.deepEqual(seen.map(({ message }) => message.offset), words([...Array(400).keys()]))
  for (const { message } of seen) {
    const [codec, n] = message.key.toString().split('-')
    assert.equal(message.value.toString(), `value ${n} `.repeat(20))
    assert.equal(message.headers.codec.toString(), codec)
  }
}

async function groupOfTwo() {
  const name = await topic(4)
  const producer = kafka.producer()
  await producer.connect()
  const messages = words([...Array(400).keys()]).map(value => ({ value, partition: Number(value) % 4 }))
  await producer.send({ topic: name, messages })
  await producer.disconnect()
  const [groupId, seen] = [randomUUID(), []]
  const first = await member(groupId, name, seen)
  await until(() => first.owned.size === 4, () => [...first.owned])
  const second = await member(groupId, name, seen)
  const both = () => [[...first.owned], [...second.owned]]
  await until(() => first.owned.size === 2 && second.owned.size === 2, both)
  assert.deepEqual(both().flat().sort(), [0, 1, 2, 3])
  const values = () => new Set(seen.map(({ message }) => message.value.toString()))
  await until(() => values().size === 400, () => values().size)
  const described = (await admin.describeGroups([groupId])).groups[0]
  assert.deepEqual([described.state, described.members.length], ['Stable', 2])
  await first.consumer.disconnect()
  await until(() => second.owned.size === 4, both)
  await second.consumer.disconnect()
  const committed = (await admin.fetchOffsets({ groupId, topics: [name] }))[0].partitions
  assert.deepEqual(committed.map(({ offset }) => offset), ['100', '100', '100', '100'])
  await admin.resetOffsets({ groupId, topic: name, earliest: true })
  const reset = (await admin.fetchOffsets({ groupId, topics: [name], resolveOffsets: true }))[0].partitions
  assert.deepEqual(reset.map(({ offset }) => offset), ['0', '0', '0', '0'])
  assert.ok((await admin.listGroups()).groups.some(group => group.groupId === groupId))
  assert.deepEqual(await admin.deleteGroups([groupId]), [{ groupId, errorCode: 0 }])
}

async function transactions() {
  const [source, target] = [await topic(1), await topic(2)]
  const producer = kafka.producer({ transactionalId: randomUUID(), idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  const groupId = randomUUID()
  for (const [attempt, commit] of [false, true, false, true].entries()) {
    const transaction = await producer.transaction()
    const messages = words([...Array(50).keys()]).map(n => ({ value: `${attempt}-${n}`, partition: Number(n) % 2 }))
    await transaction.send({ topic: target, messages })
    const offsets = [{ topic: source, partitions: [{ partition: 0, offset: String(attempt + 5) }] }]
    await transaction.sendOffsets({ consumerGroupId: groupId, topics: offsets })
    await (commit ? transaction.commit() : transaction.abort())
  }
  const seen = []
  const { consumer } = await member(randomUUID(), target, seen)
  await until(() => seen.length >= 100, () => seen.length)
  await consumer.disconnect()
  const want = [1, 3].flatMap(attempt => words([...Array(50).keys()]).map(n => `${attempt}-${n}`))
  assert.deepEqual(seen.map(({ message }) => message.value.toString()).sort(), want.sort())
  await until(async () => {
    const committed = await admin.fetchOffsets({ groupId, topics: [source] })
    return committed[0].partitions[0].offset === '8'
  }, () => 'the offset of the last transaction')
  await producer.disconnect()
}

async function administration() {
  const name = await topic(2)
  assert.ok((await admin.listTopics()).includes(name))
  const cluster = await admin.describeCluster()
  assert.equal(cluster.brokers.length, 1)
  assert.equal(cluster.controller, cluster.brokers[0].nodeId)
  await admin.createPartitions({ topicPartitions: [{ topic: name, count: 3 }] })
  await until(async () => {
    const { topics } = await admin.fetchTopicMetadata({ topics: [name] })
    return topics[0].partitions.length === 3
  }, () => 'three partitions')
  const resource = { type: ConfigResourceTypes.TOPIC, name }
  await admin.alterConfigs({
    validateOnly: false, resources: [{ ...resource, configEntries: [{ name: 'retention.ms', value: '86400000' }] }],
  })
  await until(async () => {
    const { resources } = await admin.describeConfigs({ includeSynonyms: true, resources: [resource] })
    const entry = resources[0].configEntries.find(it => it.configName === 'retention.ms')
    return entry.configValue === '86400000' && !entry.isDefault
  }, () => 'the new setting')
  const producer = kafka.producer()
  await producer.connect()
  await producer.send({ topic: name, messages: words([...Array(10).keys()]).map(value => ({ value, partition: 0 })) })
  await producer.disconnect()
  // Deleting alone does not look up who leads a topic.
  assert.equal((await admin.fetchTopicOffsets(name)).length, 3)
  await admin.deleteTopicRecords({ topic: name, partitions: [{ partition: 0, offset: '4' }] })
  const ends = (await admin.fetchTopicOffsets(name)).find(it => it.partition === 0)
  assert.deepEqual([ends.low, ends.high], ['4', '10'])
  await admin.deleteTopics({ topics: [name] })
  await until(async () => !(await admin.listTopics()).includes(name), () => 'the topic is gone')
}

async function main() {
  await admin.connect()
  const wanted = process.argv.slice(3)
  for (const part of [codecs, groupOfTwo, transactions, administration]) {
    if (wanted.length > 0 && !wanted.includes(part.name)) continue
    await part()
    console.log(`${part.name} ok`)
  }
  await admin.disconnect()
  console.log('ok')
}

main().catch(error => {
  console.error(error)
  process.exit(1)
})
