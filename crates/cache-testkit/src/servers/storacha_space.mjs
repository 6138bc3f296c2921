// Prints a space, an agent's key, and the delegation of the space to the agent, as the official command line does.
import * as ed25519 from '@ucanto/principal/ed25519'
import { delegate } from '@ucanto/core'
import { CID } from 'multiformats/cid'
import { identity } from 'multiformats/hashes/identity'
import { base64 } from 'multiformats/bases/base64'

const space = await ed25519.generate()
const agent = await ed25519.generate()
const proof = await delegate({
  issuer: space,
  audience: agent,
  // By name: the official client finds no proof for `space/blob/add` in `space/blob/*`.
  capabilities: ['add', 'list', 'remove', 'get/0/1'].map(can => `space/blob/${can}`)
    .concat(['add', 'get', 'list', 'remove'].map(can => `upload/${can}`))
    .map(can => ({ can, with: space.did() })),
  expiration: Infinity,
})
const archive = await proof.archive()
if (archive.error) throw archive.error
const text = CID.createV1(0x0202, identity.digest(archive.ok)).toString(base64)
console.log(JSON.stringify({ key: ed25519.format(agent), proof: text, space: space.did() }))
