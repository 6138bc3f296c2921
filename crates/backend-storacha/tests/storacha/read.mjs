// Lists the only blob of a space with the official client and prints its bytes in hexadecimal.
import * as Client from '@storacha/client'
import { StoreMemory } from '@storacha/client/stores/memory'
import * as ed25519 from '@ucanto/principal/ed25519'
import * as DID from '@ipld/dag-ucan/did'
import * as CAR from '@ucanto/transport/car'
import * as HTTP from '@ucanto/transport/http'
import { connect } from '@ucanto/client'
import { parse } from '@storacha/client/proof'

const [key, proof] = process.argv.slice(2)
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
const { results } = await client.capability.upload.list()
if (results.length !== 2) throw new Error(`${results.length} uploads`)
const blobs = await client.capability.blob.list()
if (blobs.results.length !== 1) throw new Error(`${blobs.results.length} blobs`)
const digest = blobs.results[0].blob.digest
if (Buffer.compare(Buffer.from(results[0].shards[0].multihash.bytes), Buffer.from(digest))) throw new Error('another shard')
const found = await client.capability.blob.get({ digest, bytes: digest, code: 0x12, size: 32 })
const receipt = async cid => {
  const response = await fetch(new URL(`/receipt/${cid}`, process.env.SERVICE_URL))
  const message = await CAR.request.decode({ headers: {}, body: new Uint8Array(await response.arrayBuffer()) })
  return message.get(cid)
}
const added = await receipt(found.ok.cause)
const accept = added.fx.fork.find(task => task.capabilities?.[0].can === 'blob/accept')
const accepted = await receipt(accept.cid)
const blocks = new Map([...accepted.iterateIPLDBlocks()].map(block => [`${block.cid}`, block]))
const { Delegation } = await import('@ucanto/core')
const claim = Delegation.view({ root: accepted.out.ok.site, blocks })
const bytes = await fetch(claim.capabilities[0].nb.location[0])
console.log(Buffer.from(await bytes.arrayBuffer()).toString('hex'))
