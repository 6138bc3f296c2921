// Lists the uploads of a space with the official client; prints the most shards that one of them has.
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
const list = await client.capability.upload.list()
console.log(Math.max(0, ...list.results.map(({ shards }) => shards?.length ?? 0)))
