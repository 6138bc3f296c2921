// Stores bytes with the official client and adds them as a shard to every upload of the space.
import * as Client from '@storacha/client'
import { StoreMemory } from '@storacha/client/stores/memory'
import * as ed25519 from '@ucanto/principal/ed25519'
import * as DID from '@ipld/dag-ucan/did'
import * as CAR from '@ucanto/transport/car'
import * as HTTP from '@ucanto/transport/http'
import { connect } from '@ucanto/client'
import { parse } from '@storacha/client/proof'

const [key, proof, hex] = process.argv.slice(2)
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
const bytes = Buffer.from(hex, 'hex')
const stored = await client.capability.blob.add(new Blob([bytes]))
const { CID } = await import('multiformats/cid')
const { sha256 } = await import('multiformats/hashes/sha2')
const shard = CID.createV1(0x0202, await sha256.digest(bytes))
const { results } = await client.capability.upload.list()
for (const { root } of results) await client.capability.upload.add(root, [shard])
console.log(results.length, !!stored)
