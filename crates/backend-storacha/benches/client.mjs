// The official client, doing what the tier does: stores bytes and notes them under a root, and finds them
// again. One command a line on standard input (`put I`, `first I`, `again I`, `replay I`), one line with the
// milliseconds and the requests on standard output.
import readline from 'node:readline'
import { randomUUID } from 'node:crypto'
let requests = 0
const plain = globalThis.fetch
globalThis.fetch = (...args) => { requests += 1; return plain(...args) }
// What it waits for in vain, as receipts that are not there yet, it says by itself.
console.warn = () => {}
const Client = await import('@storacha/client')
const { StoreMemory } = await import('@storacha/client/stores/memory')
const ed25519 = await import('@ucanto/principal/ed25519')
const DID = await import('@ipld/dag-ucan/did')
const CAR = await import('@ucanto/transport/car')
const HTTP = await import('@ucanto/transport/http')
const { connect } = await import('@ucanto/client')
const { Delegation } = await import('@ucanto/core')
const { parse } = await import('@storacha/client/proof')
const { CID } = await import('multiformats/cid')
const { sha256 } = await import('multiformats/hashes/sha2')

const [key, proof, size] = process.argv.slice(1)
const connection = connect({
  id: DID.parse(process.env.SERVICE_DID),
  codec: CAR.outbound,
  channel: HTTP.open({ url: new URL(process.env.SERVICE_URL), method: 'POST' }),
})
const client = await Client.create({
  principal: ed25519.parse(key),
  store: new StoreMemory(),
  serviceConf: { access: connection, upload: connection, filecoin: connection, gateway: connection },
  receiptsEndpoint: new URL('/receipt/', process.env.SERVICE_URL),
})
const space = await client.addSpace(await parse(proof))
await client.setCurrentSpace(space.did())

const root = async index => CID.createV1(0x55, await sha256.digest(new TextEncoder().encode(`official ${index}`)))
const receipt = async cid => {
  const response = await fetch(new URL(`/receipt/${cid}`, process.env.SERVICE_URL))
  const message = await CAR.request.decode({ headers: {}, body: new Uint8Array(await response.arrayBuffer()) })
  return message.get(cid)
}
const locate = async digest => {
  const found = await client.capability.blob.get({ digest: digest.bytes, bytes: digest.bytes, code: 0x12, size: 32 })
  const added = await receipt(found.ok.cause)
  const accept = added.fx.fork.find(task => task.capabilities?.[0].can === 'blob/accept')
  const accepted = await receipt(accept.cid)
  const blocks = new Map([...accepted.iterateIPLDBlocks()].map(block => [`${block.cid}`, block]))
  return Delegation.view({ root: accepted.out.ok.site, blocks }).capabilities[0].nb.location[0]
}
const locations = new Map()
// Without a nonce of its own an invocation that is made twice within a second is the same one, and the
// service answers it with the receipt of the first time: it verifies nothing, looks nothing up, and what
// was written in between is not seen. `replay` does that; the tier never does.
const get = async (index, nonce) => {
  const { shards } = await client.capability.upload.get(await root(index), { nonce })
  const shard = shards[0]
  if (!locations.has(`${shard}`)) locations.set(`${shard}`, await locate(shard.multihash))
  const bytes = new Uint8Array(await (await fetch(locations.get(`${shard}`))).arrayBuffer())
  const { digest } = await sha256.digest(bytes)
  if (Buffer.compare(Buffer.from(digest), Buffer.from(shard.multihash.digest))) throw new Error('other bytes')
  if (bytes.length !== Number(size)) throw new Error(`${bytes.length} bytes`)
}
const put = async index => {
  const bytes = new Uint8Array(Number(size))
  for (let at = 0, state = index + 1; at < bytes.length; at += 1) {
    state = Math.imul(state, 48271) >>> 0
    bytes[at] = state >>> 24
  }
  await client.capability.blob.add(new Blob([bytes]))
  await client.capability.upload.add(await root(index), [CID.createV1(0x0202, await sha256.digest(bytes))])
}
console.log('ready')
for await (const line of readline.createInterface({ input: process.stdin })) {
  const [what, index] = line.split(' ')
  requests = 0
  const began = performance.now()
  if (what === 'put') await put(Number(index))
  else await get(Number(index), what === 'replay' ? undefined : randomUUID())
  console.log(`${performance.now() - began} ${requests}`)
}
