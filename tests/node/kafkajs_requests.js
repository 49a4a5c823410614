/*
 * kafkajs's requests against a broker, one by one: usage: kafkajs_requests.js HOST:PORT [API...]
 *
 * kafkajs has an encoder and a decoder of its own for each version of each request that it knows, and a cluster of its
 * day decides which of them are ever used. Here each version that both it and the broker know is sent, and what
 * comes back is looked at. Its own tests of this kind (`src/broker`) are not in its package. Prints "ok" at the end.
 */
'use strict'

const assert = require('node:assert/strict')
const { randomUUID } = require('node:crypto')
const Broker = require('kafkajs/src/broker')
const ConnectionPool = require('kafkajs/src/network/connectionPool')
const InstrumentationEventEmitter = require('kafkajs/src/instrumentation/emitter')
const LoggerConsole = require('kafkajs/src/loggers/console')
const { createLogger, LEVELS } = require('kafkajs/src/loggers')
const { MemberAssignment, MemberMetadata } = require('kafkajs/src/consumer/assignerProtocol')
const { requests } = require('kafkajs/src/protocol/requests')
const apiKeys = require('kafkajs/src/protocol/requests/apiKeys')
const createSocket = require('kafkajs/src/network/socketFactory')()

const [host, port] = process.argv[2].split(':')
const DEADLINE_MS = 30_000
const TOPIC = 2
const TRANSACTION = 1
const logger = createLogger({ level: LEVELS.NOTHING, logCreator: LoggerConsole })
const name = () => `requests-${randomUUID()}`

function connection() {
  const connectionPool = new ConnectionPool({
    host, port: Number(port), logger, socketFactory: createSocket, clientId: 'requests', connectionTimeout: 5000,
    requestTimeout: DEADLINE_MS, enforceRequestTimeout: true, maxInFlightRequests: null,
    instrumentationEmitter: new InstrumentationEventEmitter(), reauthenticationThreshold: 10_000,
  })
  return new Broker({ connectionPool, logger, allowAutoTopicCreation: false })
}

async function until(attempt, what) {
  const end = Date.now() + DEADLINE_MS
  for (;;) {
    try {
      return await attempt()
    } catch (error) {
      if (Date.now() > end) throw new Error(`not in time: ${what}`, { cause: error })
      await new Promise(resume => setTimeout(resume, 20))
    }
  }
}

async function topic(broker, numPartitions = 1) {
  const topic = name()
  await broker.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1 }] })
  await until(() => broker.metadata([topic]), `leaders of ${topic}`)
  return topic
}

const records = topic => [{
  topic,
  partitions: [{
    partition: 0, firstSequence: 0,
    messages: [0, 1, 2].map(n => ({ key: `k${n}`, value: `v${n}`, headers: { n: [`${n}`] }, timestamp: 1_700_000_000_000 + n })),
  }],
}]

async function filled(broker) {
  const it = await topic(broker)
  await broker.produce({ topicData: records(it) })
  return it
}

/** A group of one member whose coordinator is this broker, up to its first generation. */
async function joined(broker) {
  const groupId = name()
  await until(() => broker.findGroupCoordinator({ groupId, coordinatorType: 0 }), `the coordinator of ${groupId}`)
  const metadata = MemberMetadata.encode({ version: 1, topics: ['any'], userData: Buffer.alloc(0) })
  const member = await until(() => broker.joinGroup({
    groupId, sessionTimeout: 10_000, rebalanceTimeout: 10_000, groupProtocols: [{ name: 'mine', metadata }],
  }), `a member of ${groupId}`)
  assert.equal(member.leaderId, member.memberId)
  assert.equal(member.members.length, 1)
  const memberAssignment = MemberAssignment.encode({ version: 1, assignment: { any: [0] }, userData: Buffer.alloc(0) })
  const at = { groupId, generationId: member.generationId, memberId: member.memberId }
  const synced = await broker.syncGroup({ ...at, groupAssignment: [{ memberId: member.memberId, memberAssignment }] })
  assert.deepEqual(MemberAssignment.decode(synced.memberAssignment).assignment, { any: [0] })
  return { ...at, groupGenerationId: at.generationId }
}

/** A group with an offset in it, and its topic. */
async function committed(broker) {
  const [member, it] = [await joined(broker), await topic(broker)]
  const topics = [{ topic: it, partitions: [{ partition: 0, offset: '7', metadata: 'note' }] }]
  const { responses } = await broker.offsetCommit({ ...member, topics })
  assert.deepEqual(responses, [{ topic: it, partitions: [{ partition: 0, errorCode: 0 }] }])
  const fetched = await broker.offsetFetch({ groupId: member.groupId, topics: [{ topic: it, partitions: [{ partition: 0 }] }] })
  const [{ offset, metadata }] = fetched.responses[0].partitions
  assert.deepEqual([offset, metadata], ['7', 'note'])
  return { member, it }
}

async function transactional(broker) {
  const transactionalId = name()
  await until(() => broker.findGroupCoordinator({ groupId: transactionalId, coordinatorType: TRANSACTION }), 'a coordinator')
  const transaction = () => broker.initProducerId({ transactionalId, transactionTimeout: 30_000 })
  const { producerId, producerEpoch } = await until(transaction, 'a producer id')
  return { transactionalId, producerId, producerEpoch }
}

/** A whole transaction with a record and an offset in it. */
async function transaction(broker) {
  const [producer, it, groupId] = [await transactional(broker), await topic(broker), name()]
  const added = await until(
    () => broker.addPartitionsToTxn({ ...producer, topics: [{ topic: it, partitions: [0] }] }), 'its partition')
  assert.deepEqual(added.errors, [{ topic: it, partitionErrors: [{ partition: 0, errorCode: 0 }] }])
  await broker.produce({ ...producer, topicData: records(it) })
  await broker.addOffsetsToTxn({ ...producer, groupId })
  const topics = [{ topic: it, partitions: [{ partition: 0, offset: '3', metadata: null }] }]
  await until(() => broker.txnOffsetCommit({ ...producer, groupId, topics }), 'its offsets')
  assert.equal((await broker.endTxn({ ...producer, transactionResult: true })).errorCode, 0)
  const want = [{ topic: it, partitions: [{ partition: 0 }] }]
  await until(async () => {
    const { responses } = await broker.offsetFetch({ groupId, topics: want })
    assert.equal(responses[0].partitions[0].offset, '3')
  }, 'the offset of the transaction')
}

const acl = name => ({
  resourceType: TOPIC, resourceName: name, resourcePatternType: 3, principal: 'User:bob', host: '*', operation: 2, permissionType: 3,
})

async function acls(broker) {
  const one = acl(name())
  assert.equal((await broker.createAcls({ acl: [one] })).creationResponses[0].errorCode, 0)
  const described = () => broker.describeAcls(one)
  await until(async () => assert.equal((await described()).resources[0].acls[0].principal, 'User:bob'), 'the new ACL')
  const deleted = await broker.deleteAcls({ filters: [one] })
  assert.equal(deleted.filterResponses[0].matchingAcls[0].resourceName, one.resourceName)
  await until(async () => assert.deepEqual((await described()).resources, []), 'the ACL is gone')
}

/** What is sent and looked at for each request that kafkajs knows. */
const stories = {
  ApiVersions: async broker => assert.ok((await broker.apiVersions())[apiKeys.Produce].maxVersion >= 9),
  Metadata: async broker => {
    const it = await topic(broker, 3)
    const { brokers, topicMetadata } = await broker.metadata([it])
    assert.deepEqual([brokers.length, String(brokers[0].port)], [1, port])
    const [{ topic: described, partitionMetadata }] = topicMetadata
    assert.deepEqual([described, partitionMetadata.length], [it, 3])
    for (const { leader, replicas, isr } of partitionMetadata) {
      assert.deepEqual([replicas, isr], [[leader], [brokers[0].nodeId]])
    }
    await assert.rejects(broker.metadata(['no/name']), { type: 'INVALID_TOPIC_EXCEPTION' })
  },
  Produce: async (broker, version) => {
    const it = await topic(broker)
    const { topics } = await broker.produce({ topicData: records(it) })
    const [{ topicName, partitions: [{ partition, errorCode, baseOffset, offset }] }] = topics
    assert.deepEqual([topicName, partition, errorCode, baseOffset ?? offset], [it, 0, 0, '0'], `version ${version}`)
    await assert.rejects(broker.produce({ topicData: records(name()) }), { type: 'UNKNOWN_TOPIC_OR_PARTITION' })
  },
  Fetch: async broker => {
    const it = await filled(broker)
    const fetch = fetchOffset => broker.fetch({
      isolationLevel: 1, maxWaitTime: 10, topics: [{ topic: it, partitions: [{ partition: 0, fetchOffset, maxBytes: 1 << 20 }] }],
    })
    const [{ topicName, partitions: [{ partition, highWatermark, messages }] }] = (await fetch(0)).responses
    assert.deepEqual([topicName, partition, highWatermark], [it, 0, '3'])
    const read = messages.map(({ offset, key, value, timestamp, headers }) => [offset, `${key}`, `${value}`, timestamp, `${headers.n}`])
    assert.deepEqual(read, [0, 1, 2].map(n => [`${n}`, `k${n}`, `v${n}`, `${1_700_000_000_000 + n}`, `${n}`]))
    assert.deepEqual((await fetch(3)).responses[0].partitions[0].messages, [])
    await assert.rejects(fetch(4), { type: 'OFFSET_OUT_OF_RANGE' })
  },
  ListOffsets: async broker => {
    const it = await filled(broker)
    for (const [timestamp, want] of [[-1, '3'], [-2, '0'], [1_700_000_000_001, '1'], [1_800_000_000_000, '-1']]) {
      const topics = [{ topic: it, partitions: [{ partition: 0, timestamp, maxNumberOfOffsets: 1 }] }]
      const { responses } = await broker.listOffsets({ isolationLevel: 0, topics })
      assert.equal(responses[0].partitions[0].offset, want, `the offset for ${timestamp}`)
    }
  },
  GroupCoordinator: async broker => {
    for (const coordinatorType of [0, 1]) {
      const { coordinator } = await until(() => broker.findGroupCoordinator({ groupId: name(), coordinatorType }), 'a coordinator')
      assert.equal(String(coordinator.port), port)
    }
  },
  JoinGroup: joined,
  SyncGroup: joined,
  Heartbeat: async broker => {
    const member = await joined(broker)
    assert.equal((await broker.heartbeat(member)).errorCode, 0)
    await assert.rejects(broker.heartbeat({ ...member, groupGenerationId: 9 }), { type: 'ILLEGAL_GENERATION' })
    await assert.rejects(broker.heartbeat({ ...member, memberId: 'nobody' }), { type: 'UNKNOWN_MEMBER_ID' })
  },
  LeaveGroup: async broker => {
    const member = await joined(broker)
    assert.equal((await broker.leaveGroup(member)).errorCode, 0)
    await assert.rejects(broker.heartbeat(member), { type: 'UNKNOWN_MEMBER_ID' })
  },
  OffsetCommit: committed,
  OffsetFetch: committed,
  DescribeGroups: async broker => {
    const { groupId, memberId } = await joined(broker)
    const { groups: [one, other] } = await broker.describeGroups({ groupIds: [groupId, name()] })
    assert.deepEqual([one.state, one.protocolType, one.protocol, one.members[0].memberId], ['Stable', 'consumer', 'mine', memberId])
    assert.deepEqual(MemberMetadata.decode(one.members[0].memberMetadata).topics, ['any'])
    assert.deepEqual([other.state, other.members], ['Dead', []])
  },
  ListGroups: async broker => {
    const { groupId } = await joined(broker)
    const listed = (await broker.listGroups()).groups.find(it => it.groupId === groupId)
    assert.deepEqual(listed, { groupId, protocolType: 'consumer' })
  },
  DeleteGroups: async broker => {
    const member = await joined(broker)
    const { results: [{ error }] } = await broker.deleteGroups([member.groupId])
    assert.equal(error.type, 'NON_EMPTY_GROUP')
    await broker.leaveGroup(member)
    assert.deepEqual((await broker.deleteGroups([member.groupId])).results, [{ groupId: member.groupId, errorCode: 0 }])
  },
  CreateTopics: async broker => {
    const made = { topic: name(), numPartitions: 2, replicationFactor: 1, configEntries: [{ name: 'retention.ms', value: '1000' }] }
    assert.deepEqual((await broker.createTopics({ topics: [made] })).topicErrors.map(it => it.errorCode), [0])
    await until(() => broker.metadata([made.topic]), 'its leaders')
    await assert.rejects(broker.createTopics({ topics: [made] }), ({ errors }) => errors[0].type === 'TOPIC_ALREADY_EXISTS')
  },
  CreatePartitions: async broker => {
    const it = await topic(broker)
    await broker.createPartitions({ topicPartitions: [{ topic: it, count: 3 }] })
    await until(async () => assert.equal((await broker.metadata([it])).topicMetadata[0].partitionMetadata.length, 3), 'its partitions')
    await assert.rejects(broker.createPartitions({ topicPartitions: [{ topic: it, count: 2 }] }), { type: 'INVALID_PARTITIONS' })
  },
  DeleteTopics: async broker => {
    const it = await topic(broker)
    assert.deepEqual((await broker.deleteTopics({ topics: [it] })).topicErrors, [{ topic: it, errorCode: 0 }])
    await until(() => assert.rejects(broker.metadata([it]), { type: 'UNKNOWN_TOPIC_OR_PARTITION' }), 'it is gone')
  },
  DeleteRecords: async broker => {
    const it = await filled(broker)
    const before = offset => broker.deleteRecords({ topics: [{ topic: it, partitions: [{ partition: 0, offset }] }] })
    assert.deepEqual((await before('2')).topics, [{ topic: it, partitions: [{ partition: 0, lowWatermark: 2n, errorCode: 0 }] }])
    await assert.rejects(before('9'), ({ partitions }) => partitions[0].error.type === 'OFFSET_OUT_OF_RANGE')
  },
  DescribeConfigs: async broker => {
    const it = await topic(broker)
    const resource = { type: TOPIC, name: it, configNames: ['retention.ms'] }
    const { resources: [{ resourceName, configEntries }] } = await broker.describeConfigs({ resources: [resource], includeSynonyms: true })
    const [{ configName, configValue, isSensitive, readOnly }] = configEntries
    assert.deepEqual([resourceName, configName, configValue], [it, 'retention.ms', '604800000'])
    assert.deepEqual([isSensitive, readOnly], [false, false])
  },
  AlterConfigs: async broker => {
    const resource = { type: TOPIC, name: await topic(broker) }
    const { resources } = await broker.alterConfigs({
      resources: [{ ...resource, configEntries: [{ name: 'cleanup.policy', value: 'compact' }] }],
    })
    assert.equal(resources[0].errorCode, 0)
    await until(async () => {
      const described = await broker.describeConfigs({ resources: [{ ...resource, configNames: ['cleanup.policy'] }] })
      assert.equal(described.resources[0].configEntries[0].configValue, 'compact')
    }, 'the new setting')
  },
  InitProducerId: async broker => {
    const first = await transactional(broker)
    const { transactionalId } = first
    const again = await broker.initProducerId({ transactionalId, transactionTimeout: 30_000 })
    assert.deepEqual([again.producerId, again.producerEpoch], [first.producerId, first.producerEpoch + 1])
    const plain = await broker.initProducerId({ transactionalId: null, transactionTimeout: 30_000 })
    assert.equal(plain.producerEpoch, 0)
  },
  AddPartitionsToTxn: transaction,
  AddOffsetsToTxn: transaction,
  TxnOffsetCommit: transaction,
  EndTxn: transaction,
  CreateAcls: acls,
  DescribeAcls: acls,
  DeleteAcls: acls,
  AlterPartitionReassignments: async broker => {
    const it = await topic(broker)
    const { brokers: [{ nodeId }] } = await broker.metadata([it])
    const topics = [{ topic: it, partitionAssignment: [{ partition: 0, replicas: [nodeId] }] }]
    assert.equal((await broker.alterPartitionReassignments({ topics, timeout: 5000 })).errorCode, 0)
  },
  ListPartitionReassignments: async broker => {
    const { errorCode, topics } = await broker.listPartitionReassignments({ topics: null, timeout: 5000 })
    assert.deepEqual([errorCode, topics], [0, []])
  },
}

/** Advertised from 0 on for librdkafka's sake, and refused below this, as by Apache Kafka 4 (KAFKA-18659). */
const PRODUCE_MIN = 3

/** What kafkajs knows and this leaves out: a listener with SASL has them. */
const ELSEWHERE = ['SaslHandshake', 'SaslAuthenticate']

async function main() {
  const wanted = process.argv.slice(3)
  const broker = connection()
  await broker.connect()
  const best = broker.lookupRequest
  let count = 0
  const known = Object.keys(requests).filter(api => requests[api].versions.length > 0 && !ELSEWHERE.includes(api))
  assert.deepEqual(known.filter(api => !(api in stories)), [], 'requests without a story')
  for (const api of known.filter(api => wanted.length === 0 || wanted.includes(api))) {
    const offered = broker.versions[apiKeys[api]]
    assert.ok(offered, `the broker does not offer ${api}`)
    const min = api === 'Produce' ? Math.max(PRODUCE_MIN, offered.minVersion) : offered.minVersion
    const versions = requests[api].versions.map(Number).filter(it => it >= min && it <= offered.maxVersion)
    assert.ok(versions.length > 0, `no version of ${api} in common`)
    for (const version of versions) {
      broker.lookupRequest = (key, definition) =>
        key === apiKeys[api] ? definition.protocol({ version }) : best(key, definition)
      try {
        await stories[api](broker, version)
      } catch (error) {
        throw new Error(`${api} version ${version}`, { cause: error })
      }
      count += 1
    }
    console.log(`${api} ${versions.join(' ')} ok`)
  }
  await broker.disconnect()
  console.log(`${count} versions of ${known.length} requests`)
  console.log('ok')
}

main().catch(error => {
  console.error(error)
  process.exit(1)
})
